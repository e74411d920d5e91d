/* Where activations lie in one piece of memory: those that are needed at the same time apart, all others over each other. */
#ifndef AC_PLAN_H
#define AC_PLAN_H

#include "ac_kernels.h"

#define AC_ALIGNED(bytes) (((bytes) + 63) / 64 * 64)

/* A block of memory that is needed from step `first` to step `last`, both included. `order` is the planner's own. */
typedef struct {
  int64_t bytes, first, last, offset, order;
} ac_block;

/* Give every block an offset, a multiple of 64. Returns the end of the last one. Greedy: the largest first, each at the lowest
 * offset that is free as long as it is needed (Pisarchyk and Lee, arXiv:2001.03288, "greedy by size"). */
AC_EXPORT int64_t ac_plan(ac_block *blocks, int64_t count);

#endif
