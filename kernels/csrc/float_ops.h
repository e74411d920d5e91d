/* Ops without weights on f32 and f16 planes: add, mul, activation, copy. Included with AC_HALF defined (see float.h).
 *
 * x2 of add and mul has the shape of x, or with `gate` one pixel a channel.
 */
#include "float.h"

#define AC_DEFINE_BINARY(name, op)                                                                                \
  void AC_JOIN(ac_, AC_FLOAT(name))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) { \
    (void)scratch;                                                                                                \
    const ac_bounds bounds = bounds_of(p);                                                                        \
    const int64_t pixels = p->y_height * p->y_width;                                                              \
    for (int64_t channel = 0; channel < p->rows; channel++) {                                                     \
      const element *a = (const element *)x + channel * p->x_plane;                                               \
      const element *b = (const element *)x2 + channel * p->x2_plane;                                             \
      element *to = (element *)y + channel * p->y_plane;                                                          \
      int64_t i = 0;                                                                                              \
      if (p->gate) {                                                                                              \
        const real gate = (real)*b;                                                                               \
        for (; i + REAL_LANES <= pixels; i += REAL_LANES)                                                         \
          STORE_REALS(REAL_LANES, to + i, FINISH(REAL_LANES)(p, bounds, LOAD_REALS(REAL_LANES, a + i) op gate));          \
        for (; i < pixels; i++) store_single(p, (real)a[i] op gate, to + i);                                      \
      } else {                                                                                                    \
        for (; i + REAL_LANES <= pixels; i += REAL_LANES) {                                                       \
          const REALS(REAL_LANES) r = LOAD_REALS(REAL_LANES, a + i) op LOAD_REALS(REAL_LANES, b + i);             \
          STORE_REALS(REAL_LANES, to + i, FINISH(REAL_LANES)(p, bounds, r));                                              \
        }                                                                                                         \
        for (; i < pixels; i++) store_single(p, (real)a[i] op (real)b[i], to + i);                                \
      }                                                                                                           \
    }                                                                                                             \
  }

AC_DEFINE_BINARY(add, +)
AC_DEFINE_BINARY(mul, *)

void AC_JOIN(ac_, AC_FLOAT(activation))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2, (void)scratch;
  const ac_bounds bounds = bounds_of(p);
  const int64_t pixels = p->y_height * p->y_width;
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = (const element *)x + channel * p->x_plane;
    element *to = (element *)y + channel * p->y_plane;
    int64_t i = 0;
    for (; i + REAL_LANES <= pixels; i += REAL_LANES)
      STORE_REALS(REAL_LANES, to + i, FINISH(REAL_LANES)(p, bounds, LOAD_REALS(REAL_LANES, from + i)));
    for (; i < pixels; i++) store_single(p, (real)from[i], to + i);
  }
}

void AC_JOIN(ac_, AC_FLOAT(copy))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2, (void)scratch;
  const size_t bytes = (size_t)(p->y_height * p->y_width) * sizeof(element);
  for (int64_t channel = 0; channel < p->rows; channel++)
    memcpy((element *)y + channel * p->y_plane, (const element *)x + channel * p->x_plane, bytes);
}

/* The mean of a plane, summed in f32: 4 vectors of partial sums. */
void AC_JOIN(ac_, AC_FLOAT(global_pool))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2, (void)scratch;
  const int64_t pixels = p->x_height * p->x_width;
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = (const element *)x + channel * p->x_plane;
    f32x4 sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 16 <= pixels; i += 16)
      for (int n = 0; n < 4; n++) sums[n] += __builtin_convertvector(AC_LOAD(ELEMENTS(4), from + i + 4 * n), f32x4);
    const f32x4 four = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float sum = (four[0] + four[1]) + (four[2] + four[3]);
    for (; i < pixels; i++) sum += (float)from[i];
    store_single(p, (real)(sum / (float)pixels), (element *)y + channel * p->y_plane);
  }
}
