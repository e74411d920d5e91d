/* What averages of all types share. */
#ifndef AC_POOL_H
#define AC_POOL_H

#include "view.h"

/* Floats at the beginning of a pool's scratch, before the copy of a plane. */
static inline int64_t ac_pool_factor_count(const ac_view *view) { return (view->positions + AC_SLACK + 15) / 16 * 16; }

/* For every position, scale / the number of inputs that its sum is divided by. */
void ac_pool_factors(const ac_problem *p, const ac_view *view, float scale, float *factors);

#endif
