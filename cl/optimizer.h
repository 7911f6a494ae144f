/* Arguments of optimizer.cl. */
#ifndef OPTIMIZER_H
#define OPTIMIZER_H

struct adam_args {
    int count, grain;                 /* elements; an item's */
    float beta1, rest1, beta2, rest2; /* rest = 1 - beta, rounded once, from double */
    float eps, weight_decay;
    int decoupled;
};

#endif
