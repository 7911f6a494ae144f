/* Arguments of reduce.cl. */
#ifndef REDUCE_H
#define REDUCE_H

/* src is groups x rows x columns, dst groups x chunks x columns: each chunk of `chunk` rows becomes their sum. The rows
 * of src lie `pitch` floats apart. `blocks` items of `width` columns (at most REDUCE_COLUMNS) lie side by side. */
struct sum_args {
    int rows, columns, pitch, chunk, chunks, width, blocks;
    float scale; /* of the result; 1 but for the last pass of a mean */
};

/* `count` elements seen as `spans` spans of `width` (at most REDUCE_COLUMNS). An item does `steps` of them:
 * number item * first + k * step, k = 0, 1, .. */
struct loss_args {
    int count, width, spans, steps, first, step;
    int kind; /* enum lun_loss_kind */
    float delta;
};

#endif
