/* Arguments of group_norm.cl. A sample is `rows` pixels x `columns` channels; a group has `size` channels side by side.
 * `scaled`: there is emb, of 2 x `columns` numbers a sample, scale and then shift. `blocks` items of `width` columns
 * (at most NORM_COLUMNS) lie side by side. */
#ifndef GROUP_NORM_H
#define GROUP_NORM_H

/* Numbers that a sample's channel needs: its group's mean, then a and b of a (src - mean) + b, and for the gradient
 * level and slope of a ddst - level - slope (src - mean). A sample has a row of `columns` of each. */
#define GROUP_COEFS 5

/* `partials` moments (norm.h) of a sample, `rows` pixels in all. */
struct group_finish_args {
    int rows, columns, size, partials, scaled;
    float eps;
};

/* `pieces` items of `height` rows make a sample. silu: what the group norm makes passes through it. add: something is
 * added to the gradient. */
struct group_rows_args {
    int rows, columns, height, pieces, width, blocks, silu, add;
};

struct group_back_finish_args {
    int rows, columns, size, scaled, dsum;
};

/* An item does `width` columns of all samples. */
struct group_back_weights_args {
    int samples, rows, columns, size, scaled, dbias, width;
};

#endif
