/* Arguments of norm.cl. Images are rows (pixels of the whole batch) x columns (channels). */
#ifndef NORM_H
#define NORM_H

/* Chunks of `chunk` rows; `blocks` items of `width` columns (at most NORM_COLUMNS) lie side by side, here and below. */
struct norm_chunk_args {
    int rows, columns, chunk, chunks, width, blocks;
};

/* `partials` pairs (mean, sum of squared differences), each of `span` rows but the last; `fan` of them become one. */
struct norm_merge_args {
    int rows, columns, span, partials, fan, width, blocks;
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

/* An item does `height` rows of `width` columns. inverse: 1 / rows in training, 0 in evaluation mode. */
struct norm_apply_args {
    int rows, columns, height, width, blocks;
    float inverse;
};

#endif
