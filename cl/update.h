/* Arguments of update.cl. */
#ifndef UPDATE_H
#define UPDATE_H

struct update_args {
    int count, grain; /* elements; an item's */
};

/* `count` elements seen as `spans` spans of `width` (at most SQUARE_COLUMNS). An item does `steps` of them:
 * number item * first + k * step, k = 0, 1, .. */
struct squares_args {
    int count, width, spans, steps, first, step;
};

struct clip_args {
    int parts;
    float limit;
};

struct seed_args {
    float weight;
};

struct health_args {
    int parts;
};

#endif
