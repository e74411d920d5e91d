#ifndef AC_F32_WINOGRAD_H
#define AC_F32_WINOGRAD_H

#include "ac_kernels.h"

/* Bytes of scratch of f32_winograd. */
int64_t ac_f32_winograd_bytes(const ac_problem *p);

#endif
