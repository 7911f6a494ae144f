/* Arguments of random.cl. A sample has channels x pixels elements in `blocks` blocks of four, the last perhaps cut
 * short; an item does `grain` blocks, `pieces` items a sample. */
#ifndef RANDOM_H
#define RANDOM_H

struct random_args {
    int channels, pixels, blocks, grain, pieces;
    unsigned bound; /* randint only */
};

#endif
