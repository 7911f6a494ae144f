/* A drawing as a list of moves, each one run of the compiled step: what the network is told and what becomes of its
 * prediction. One file a sampler makes the list; sampler.c runs it. Private.
 *
 * A move makes the next x, and for samplers with a memory the next memory too, each by a lun_sample_step of (x,
 * prediction, third), where `third` is noise, or the memory of samplers that have one. */
#ifndef LUN_MOVES_H
#define LUN_MOVES_H

#include "schedule.h"

typedef struct lun_move {
    int t;           /* a time step, or a number of lun_moves.times */
    int left;        /* steps that remain after it; -1: it is half a step */
    float coef[8];   /* of the next x */
    float memory[8]; /* of the next memory */
} lun_move;

typedef struct lun_moves {
    int count, steps;
    lun_move *move;
    double *times; /* where the network is told times of the sampler's own, one a step; else NULL */
    bool has_memory, has_noise, learned;
} lun_moves;

/* Zeroed moves. */
lun_status lun_moves_allocate(int count, lun_moves *out);
void lun_moves_free(lun_moves *moves);

/* By params->kind. */
lun_status lun_moves_create(const lun_sampler_params *params, lun_moves *out);

lun_status lun_moves_ancestral(const lun_sampler_params *params, lun_moves *out);
lun_status lun_moves_ddim(const lun_sampler_params *params, lun_moves *out);
lun_status lun_moves_dpm(const lun_sampler_params *params, lun_moves *out);
lun_status lun_moves_heun(const lun_sampler_params *params, lun_moves *out);

/* coef = {a, b, c, d, e, s, 0, 0} */
void lun_move_set(float coef[8], double a, double b, double c, double d, double e, double s);

#endif
