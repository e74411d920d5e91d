/* Conversions between element types: planar f32 and f16, and s8 in quads. From and to s8 as ac_kernels.h says; missing channels of the
 * last quad get the code of 0.
 */
#include "activation.h"

#define LANES 4

#define AC_DEFINE_WIDTH(name, from, to)                                                                             \
  void ac_##name(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {                      \
    (void)x2, (void)scratch;                                                                                        \
    const int64_t pixels = p->y_height * p->y_width;                                                                \
    for (int64_t channel = 0; channel < p->rows; channel++) {                                                       \
      const from *a = (const from *)x + channel * p->x_plane;                                                       \
      to *b = (to *)y + channel * p->y_plane;                                                                       \
      for (int64_t i = 0; i < pixels; i++) b[i] = (to)a[i];                                                         \
    }                                                                                                               \
  }

AC_DEFINE_WIDTH(f32_to_f16, float, _Float16)
AC_DEFINE_WIDTH(f16_to_f32, _Float16, float)

/* 4 reals beginning at pixel i of a plane of `pixels`; of those behind its end, the last pixel. */
#define AC_DEFINE_LOAD(name, element, vector)                                              \
  static inline f32x4 name(const element *x, int64_t i, int64_t pixels) {                  \
    if (i + LANES <= pixels) return __builtin_convertvector(AC_LOAD(vector, x + i), f32x4); \
    f32x4 result;                                                                          \
    for (int n = 0; n < LANES; n++) result[n] = (float)x[i + n < pixels ? i + n : pixels - 1]; \
    return result;                                                                         \
  }

AC_DEFINE_LOAD(load_f32, float, f32x4)
AC_DEFINE_LOAD(load_f16, _Float16, f16x4)

/* Pixels of a quad of channels that are converted 16 at a time: the first ones. */
static int64_t first_f32(const ac_problem *p, int64_t row, const float *from, int64_t pixels, int8_t *to) {
  int64_t i = 0;
#if AC_VNNI
  const int64_t channels = p->rows - row < 4 ? p->rows - row : 4;
  for (; i + 16 <= pixels; i += 16) {
    i32x16 q[4] = {{0}};
    AC_UNROLL for (int n = 0; n < 4; n++)
      if (n < channels)
        q[n] = quantise_f32x16(p, AC_LOAD(f32x16, from + n * p->x_plane + i) * p->x_scale, low_code(p), high_code(p));
    AC_STORE(i32x16, to + 4 * i, quads_i32x16(q, (int32_t)p->y_zero_point));
  }
#else
  (void)p, (void)row, (void)from, (void)pixels, (void)to;
#endif
  return i;
}

static int64_t first_f16(const ac_problem *p, int64_t row, const _Float16 *from, int64_t pixels, int8_t *to) {
  (void)p, (void)row, (void)from, (void)pixels, (void)to;
  return 0;
}

#define AC_DEFINE_TO_S8(name, element, load, first)                                                 \
  void ac_##name(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {      \
    (void)x2, (void)scratch;                                                                        \
    const int64_t pixels = p->y_height * p->y_width;                                                \
    const float low = low_code(p), high = high_code(p);                                             \
    for (int64_t row = 0; row < p->rows; row += 4) {                                                \
      const element *from = (const element *)x + row * p->x_plane;                                  \
      int8_t *to = (int8_t *)y + row * p->y_plane;                                                  \
      for (int64_t i = first(p, row, from, pixels, to); i < pixels; i += LANES) {                   \
        i32x4 q[4] = {{0}};                                                                         \
        for (int n = 0; n < 4 && row + n < p->rows; n++)                                            \
          q[n] = quantise_f32x4(p, load(from + n * p->x_plane, i, pixels) * p->x_scale, low, high); \
        const i32x4 codes = quads_i32x4(q, (int32_t)p->y_zero_point);                               \
        if (i + LANES <= pixels)                                                                    \
          AC_STORE(i32x4, to + 4 * i, codes);                                                       \
        else                                                                                        \
          memcpy(to + 4 * i, &codes, (size_t)(4 * (pixels - i)));                                   \
      }                                                                                             \
    }                                                                                               \
  }

AC_DEFINE_TO_S8(f32_to_s8, float, load_f32, first_f32)
AC_DEFINE_TO_S8(f16_to_s8, _Float16, load_f16, first_f16)

#define AC_DEFINE_FROM_S8(name, element)                                                               \
  void ac_##name(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {         \
    (void)x2, (void)scratch;                                                                           \
    const int64_t pixels = p->y_height * p->y_width;                                                   \
    for (int64_t row = 0; row < p->rows; row++) {                                                      \
      const int8_t *from = (const int8_t *)x + row / 4 * 4 * p->x_plane + row % 4;                     \
      element *to = (element *)y + row * p->y_plane;                                                   \
      int64_t i = 0;                                                                                   \
      for (; i + LANES <= pixels; i += LANES) {                                                        \
        const i32x4 q = {from[4 * i], from[4 * i + 4], from[4 * i + 8], from[4 * i + 12]};             \
        const f32x4 r = __builtin_convertvector(q - (int32_t)p->x_zero_point, f32x4) * p->x_scale;     \
        const f32x4 result = activate_f32x4(p, r);                                                     \
        for (int n = 0; n < LANES; n++) to[i + n] = (element)result[n];                                \
      }                                                                                                \
      for (; i < pixels; i++) {                                                                        \
        const float r = (float)(from[4 * i] - (int32_t)p->x_zero_point) * p->x_scale;                  \
        to[i] = (element)activate_f32x4(p, AC_SPLAT(f32x4, r))[0];                                     \
      }                                                                                                \
    }                                                                                                  \
  }

AC_DEFINE_FROM_S8(s8_to_f32, float)
AC_DEFINE_FROM_S8(s8_to_f16, _Float16)
