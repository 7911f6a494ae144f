/* Arguments of norm.cl and norm_stats.h. Images are rows (pixels of the whole batch, or of a sample) x columns
 * (channels). `blocks` items of `width` columns (at most NORM_COLUMNS) lie side by side. */
#ifndef NORM_H
#define NORM_H

/* Rows of the chunk from which a first guess of its mean is taken. */
#define NORM_PILOT 32

/* `groups` (the batch, or one sample after the other) of `rows` rows, each cut into `chunks` of `chunk` rows. */
struct norm_chunk_args {
    int groups, rows, columns, chunk, chunks, width, blocks;
};

/* Of each group `partials` pairs (mean, sum of squared differences), each of `span` rows but the last; `fan` of them
 * become one of `merged`. */
struct norm_merge_args {
    int rows, columns, span, partials, fan, merged, width, blocks;
};

/* `partials` as above become the result. fresh: momentum, kept: 1 - momentum; unbias: rows / (rows - 1). */
struct norm_finish_args {
    int rows, columns, span, partials, width;
    float eps, fresh, kept, unbias;
};

struct norm_fixed_args {
    int columns, width;
    float eps;
};

/* `pieces` of `height` rows make a group of `rows` rows. shifted: each group has a row of `shift`. eps: only where the
 * variance is given. */
struct norm_apply_args {
    int rows, columns, height, pieces, width, blocks, shifted;
    float eps;
};

/* Sums of `partials` parts for each of `groups` groups become gradients and coefficients. shifted: the groups are
 * samples, and each gets its row of dshift. inverse: 1 / rows of the batch in training, 0 in evaluation mode. */
struct norm_back_finish_args {
    int groups, partials, columns, width, shifted;
    float inverse;
};

/* relu: 0 where src is not above 0. sums: each piece leaves its sum over rows. */
struct norm_back_apply_args {
    int rows, columns, height, width, blocks, relu, sums;
};

#endif
