/* Gather: what only moves values, in any order: permutations, slices along pixels, padding, repetition.
 *
 * Element n of y, counted as it lies in memory, is element offsets[n] of x, or `low` where that is negative: a real number, or for s8
 * a code. All of y is written, pad lanes and gaps included. The offsets are the indices that come with the call.
 */
#include "ac_kernels.h"

#define AC_DEFINE_GATHER(name, element)                                                                         \
  void ac_##name(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {                  \
    (void)x2, (void)scratch;                                                                                    \
    const element fill = (element)p->low, *from = x;                                                            \
    element *to = y;                                                                                            \
    const int64_t count = (sizeof(element) == 1 ? (p->rows + 3) / 4 * 4 : p->rows) * p->y_plane;                \
    for (int64_t i = 0; i < count; i++) to[i] = p->offsets[i] < 0 ? fill : from[p->offsets[i]];                 \
  }

AC_DEFINE_GATHER(f32_gather, float)
AC_DEFINE_GATHER(f16_gather, _Float16)
AC_DEFINE_GATHER(s8_gather, int8_t)
