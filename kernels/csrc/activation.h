/* Activations of vectors of f32, and the int8 epilogue. The same bits on every machine: every sum of a product is an explicit fma,
 * so the compiler has nothing to contract, and all else is a single IEEE operation. arithmetic.py computes the same in NumPy.
 */
#ifndef AC_ACTIVATION_H
#define AC_ACTIVATION_H

#include "ac_kernels.h"
#include "simd.h"

static inline int bends(const ac_problem *p) { return p->activation > AC_CLAMP; }

/* Bounds of real outputs; of the codes of an int8 output, less its zero point. */
static inline float low_real(const ac_problem *p) { return p->activation == AC_CLAMP ? p->low : -INFINITY; }
static inline float high_real(const ac_problem *p) { return p->activation == AC_CLAMP ? p->high : INFINITY; }
static inline float low_code(const ac_problem *p) {
  return (p->activation == AC_CLAMP ? p->low : -128.0f) - (float)p->y_zero_point;
}
static inline float high_code(const ac_problem *p) {
  return (p->activation == AC_CLAMP ? p->high : 127.0f) - (float)p->y_zero_point;
}

/* For every vector type V of reals that this machine's kernels use:
 *   ac_bend_V(p, r)                 act(r), of an activation that bends (activation.c)
 *   quantise_V(p, r, low, high)     reals to codes less the zero point, as the top of ac_kernels.h defines it
 *   clip_V(p, r)                    act(r), of one that does not
 *   activate_V(p, r)                act(r), of any
 *   round_V(r, low, high)           reals to codes less the zero point, once the activation has bent them
 */
#define AC_DEFINE_ACTIVATION(lanes)                                                                                       \
  AC_JOIN(f32x, lanes) AC_JOIN(ac_bend_f32x, lanes)(const ac_problem *p, AC_JOIN(f32x, lanes) r);                         \
                                                                                                                          \
  static inline AC_JOIN(i32x, lanes) AC_JOIN(round_f32x, lanes)(AC_JOIN(f32x, lanes) r, float low, float high) {           \
    r = AC_JOIN(larger_f32x, lanes)(AC_SPLAT(AC_JOIN(f32x, lanes), low), r);                                              \
    return AC_JOIN(nearest_f32x, lanes)(AC_JOIN(smaller_f32x, lanes)(AC_SPLAT(AC_JOIN(f32x, lanes), high), r));           \
  }                                                                                                                       \
                                                                                                                          \
  __attribute__((unused)) static inline AC_JOIN(i32x, lanes)                                                              \
      AC_JOIN(quantise_f32x, lanes)(const ac_problem *p, AC_JOIN(f32x, lanes) r, float low, float high) {                 \
    if (bends(p)) r = AC_JOIN(ac_bend_f32x, lanes)(p, r) * p->y_inverse_scale;                                            \
    return AC_JOIN(round_f32x, lanes)(r, low, high);                                                                      \
  }                                                                                                                       \
                                                                                                                          \
  __attribute__((unused)) static inline AC_JOIN(f32x, lanes)                                                              \
      AC_JOIN(clip_f32x, lanes)(const ac_problem *p, AC_JOIN(f32x, lanes) r) {                                            \
    r = AC_JOIN(larger_f32x, lanes)(AC_SPLAT(AC_JOIN(f32x, lanes), low_real(p)), r);                                      \
    return AC_JOIN(smaller_f32x, lanes)(AC_SPLAT(AC_JOIN(f32x, lanes), high_real(p)), r);                                 \
  }                                                                                                                       \
                                                                                                                          \
  __attribute__((unused)) static inline AC_JOIN(f32x, lanes)                                                              \
      AC_JOIN(activate_f32x, lanes)(const ac_problem *p, AC_JOIN(f32x, lanes) r) {                                        \
    return bends(p) ? AC_JOIN(ac_bend_f32x, lanes)(p, r) : AC_JOIN(clip_f32x, lanes)(p, r);                               \
  }

AC_DEFINE_ACTIVATION(4)
AC_DEFINE_ACTIVATION(8)
#if AC_F32_LANES == 16
AC_DEFINE_ACTIVATION(16)
#endif

#endif
