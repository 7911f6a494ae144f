/* Arguments of random.cl. A sample has channels x pixels elements in `blocks` blocks of four, the last perhaps cut
 * short; an item does `grain` blocks, `pieces` items a sample. */
#ifndef RANDOM_H
#define RANDOM_H

struct random_args {
    int channels, pixels, blocks, grain, pieces;
    unsigned bound; /* randint only */
};

/* A sample is pixels x channels; an item does `height` pixels (a multiple of four) and `width` channels, `blocks` items
 * side by side, `pieces` items a sample. stream: which of several draws for the same rows. */
struct dropout_args {
    int channels, pixels, height, width, blocks, pieces;
    unsigned threshold, stream;
    float scale;
};

#endif
