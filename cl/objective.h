/* Arguments of objective.cl. Images are n x pixels x channels. */
#ifndef OBJECTIVE_H
#define OBJECTIVE_H

/* Sums over a sample: `pieces` items each; item p of a sample takes its pixels p * first + k * step, k = 0 .. steps
 * - 1. pred has `channels` channels, of which `used` count. */
struct each_args {
    int pixels, channels, used, pieces, steps, first, step;
    int kind, weighted; /* kind: enum lun_loss_kind */
    float delta;
};

/* Of each sample's `pixels` an item takes `rows`, of the channels `width`; `blocks` items lie beside each other and
 * `pieces` items make a sample. */
struct each_backward_args {
    int pixels, channels, used, rows, width, blocks, pieces;
    int kind, weighted;
    float delta, scale; /* scale: 1 / (used pixels) */
};

struct mean_args {
    int count, grain;
    float scale; /* 1 / count */
};

/* used: channels of x0; pred has twice as many. table: rows. */
struct variational_args {
    int pixels, used, pieces, steps, first, step, table;
};

struct variational_backward_args {
    int pixels, used, rows, width, blocks, pieces, table;
    float scale;
};

/* `pixels` of the first half of the batch; cut as above, without samples. */
struct guide_args {
    int pixels, channels, guided, rows, width, blocks;
};

#endif
