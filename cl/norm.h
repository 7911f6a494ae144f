/* Arguments of norm.cl and norm_stats.h. Images are rows (pixels of the whole batch, or of a sample) x columns
 * (channels). `blocks` items of `width` columns (at most NORM_COLUMNS) lie side by side. */
#ifndef NORM_H
#define NORM_H

/* Rows of the chunk from which a first guess of its mean is taken. */
#define NORM_PILOT 32

/* Moments: count, mean and sum of squared differences from the mean (M2), of some rows and each column; so does every
 * partial result lie, the count as a float: [group][partial][count, mean, M2][stride]. Counts may be 0 but for a
 * group's first partial; the mean and M2 are finite then and say nothing. */

/* `groups` (the batch, or one sample after the other) of `rows` rows, each cut into `chunks` of `chunk` rows. The rows
 * of norm_chunk's source, and of norm_back_chunk's gradient, lie `pitch` floats apart. */
struct norm_chunk_args {
    int groups, rows, columns, pitch, chunk, chunks, width, blocks;
};

/* Of each group's `partials` moments, `fan` become one of `merged`. */
struct norm_merge_args {
    int partials, fan, merged, columns, stride, width, blocks;
};

/* `partials` moments of `rows` rows in all become mean and variance. */
struct norm_finish_args {
    int partials, rows, columns, stride, width;
};

/* update: the running statistics too; fresh: momentum, kept: 1 - momentum, unbias: rows / (rows - 1). */
struct norm_given_args {
    int columns, width, update;
    float eps, fresh, kept, unbias;
};

/* `pieces` of `height` rows make a group of `rows` rows. The result's rows lie `dst_pitch` floats apart. shifted: each
 * group has a row of `shift`. eps: only where the variance is given. */
struct norm_apply_args {
    int rows, columns, dst_pitch, height, pieces, width, blocks, shifted;
    float eps;
};

/* Sums of `partials` parts for each of `groups` groups become gradients and coefficients. shifted: the groups are
 * samples, and each gets its row of dshift. inverse: 1 / rows of the batch in training, 0 in evaluation mode. */
struct norm_back_finish_args {
    int groups, partials, columns, width, shifted;
    float inverse;
};

/* relu: 0 where src is not above 0. sums: each piece leaves its sum over rows. The gradient's rows lie `ddst_pitch`
 * floats apart. */
struct norm_back_apply_args {
    int rows, columns, ddst_pitch, height, width, blocks, relu, sums;
};

#endif
