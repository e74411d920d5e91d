/* Ops without weights on int8 quads: add, mul, activation, copy, global average pool.
 *
 * x2 of add and mul has the shape of x, or with `gate` one pixel a quad. Activation and copy (which also goes from one int8 format to
 * another) look their outputs up in a table of all 256 codes. Copy may begin at any channel of a quad of x and of y, for slices and
 * concatenations: channels are written in ascending order, so the parts of a concatenation must be, too.
 */
#include "s8.h"

#define LANES 8

static inline i32x8 load_codes(const int8_t *x) { return __builtin_convertvector(AC_LOAD(i8x8, x), i32x8); }

/* One pixel of a quad in both halves. */
static inline i32x8 splat_codes(const int8_t *x) {
  const i8x4 four = AC_LOAD(i8x4, x);
  return __builtin_convertvector(__builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3), i32x8);
}

static inline i8x8 codes(const ac_problem *p, f32x8 r, float low, float high) {
  return __builtin_convertvector(quantise_f32x8(p, r, low, high) + (int32_t)p->y_zero_point, i8x8);
}

static inline f32x8 add(const ac_problem *p, i32x8 a, i32x8 b) {
  const f32x8 first = __builtin_convertvector(a - (int32_t)p->x_zero_point, f32x8);
  const f32x8 second = __builtin_convertvector(b - (int32_t)p->x2_zero_point, f32x8) * p->x2_scale;
  return fma_f32x8(first, AC_SPLAT(f32x8, p->x_scale), second);
}

static inline f32x8 mul(const ac_problem *p, i32x8 a, i32x8 b) {
  const i32x8 product = (a - (int32_t)p->x_zero_point) * (b - (int32_t)p->x2_zero_point);
  return __builtin_convertvector(product, f32x8) * (p->x_scale * p->x2_scale);
}

/* Two pixels at a time; the last of an odd number alone, through a copy. */
#define AC_DEFINE_BINARY(name)                                                                         \
  void ac_s8_##name(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {      \
    (void)scratch;                                                                                     \
    const float low = low_code(p), high = high_code(p);                                                \
    const int64_t bytes = 4 * p->y_height * p->y_width;                                                \
    for (int64_t quad = 0; quad < (p->rows + 3) / 4; quad++) {                                         \
      const int8_t *a = (const int8_t *)x + 4 * quad * p->x_plane;                                     \
      const int8_t *b = (const int8_t *)x2 + 4 * quad * p->x2_plane;                                   \
      int8_t *to = (int8_t *)y + 4 * quad * p->y_plane;                                                \
      int64_t i = 0;                                                                                   \
      if (p->gate) {                                                                                   \
        const i32x8 gate = splat_codes(b);                                                             \
        for (; i + LANES <= bytes; i += LANES)                                                         \
          AC_STORE(i8x8, to + i, codes(p, name(p, load_codes(a + i), gate), low, high));               \
      } else {                                                                                         \
        for (; i + LANES <= bytes; i += LANES)                                                         \
          AC_STORE(i8x8, to + i, codes(p, name(p, load_codes(a + i), load_codes(b + i)), low, high));  \
      }                                                                                                \
      if (i < bytes) {                                                                                 \
        const i8x8 last = codes(p, name(p, splat_codes(a + i), splat_codes(b + (p->gate ? 0 : i))), low, high); \
        AC_STORE(i8x4, to + i, __builtin_shufflevector(last, last, 0, 1, 2, 3));                       \
      }                                                                                                \
    }                                                                                                  \
  }

AC_DEFINE_BINARY(add)
AC_DEFINE_BINARY(mul)

/* The output of every code, at the code as an unsigned byte. */
static void fill_table(const ac_problem *p, int8_t table[256]) {
  const float low = low_code(p), high = high_code(p);
  for (int32_t i = 0; i < 256; i += 8) {
    const i32x8 q = (i ^ 128) - 128 + (i32x8){0, 1, 2, 3, 4, 5, 6, 7};
    const f32x8 r = __builtin_convertvector(q - (int32_t)p->x_zero_point, f32x8) * p->x_scale;
    AC_STORE(i8x8, table + i, codes(p, r, low, high));
  }
}

void ac_s8_activation(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2, (void)scratch;
  int8_t table[256];
  fill_table(p, table);
  for (int64_t quad = 0; quad < (p->rows + 3) / 4; quad++) {
    const int8_t *from = (const int8_t *)x + 4 * quad * p->x_plane;
    int8_t *to = (int8_t *)y + 4 * quad * p->y_plane;
    for (int64_t i = 0; i < 4 * p->y_height * p->y_width; i++) to[i] = table[(uint8_t)from[i]];
  }
}

void ac_s8_copy(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2, (void)scratch;
  const int64_t pixels = p->y_height * p->y_width;
  int8_t table[256];
  fill_table(p, table);
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const int64_t own = p->x_lane + channel, its = p->y_lane + channel;
    const int8_t *from = (const int8_t *)x + own / 4 * 4 * p->x_plane + own % 4;
    int8_t *to = (int8_t *)y + its / 4 * 4 * p->y_plane + its % 4;
    if (own % 4 == 0 && its % 4 == 0 && channel + 4 <= p->rows) {
      for (int64_t i = 0; i < 4 * pixels; i++) to[i] = table[(uint8_t)from[i]];
      channel += 3;
    } else {
      for (int64_t i = 0; i < pixels; i++) to[4 * i] = table[(uint8_t)from[4 * i]];
    }
  }
}

void ac_s8_global_pool(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2, (void)scratch;
  const float low = low_code(p), high = high_code(p);
  const int64_t pixels = p->x_height * p->x_width;
  for (int64_t quad = 0; quad < (p->rows + 3) / 4; quad++) {
    const int8_t *from = (const int8_t *)x + 4 * quad * p->x_plane;
    i32x8 wide = {0};
    int64_t i = 0;
    for (; i + 2 <= pixels; i += 2) wide += load_codes(from + 4 * i);
    i32x4 sum = __builtin_shufflevector(wide, wide, 0, 1, 2, 3) + __builtin_shufflevector(wide, wide, 4, 5, 6, 7);
    if (i < pixels) sum += __builtin_convertvector(AC_LOAD(i8x4, from + 4 * i), i32x4);
    const f32x4 r = __builtin_convertvector(sum - (int32_t)(pixels * p->x_zero_point), f32x4) * (p->x_scale / (float)pixels);
    const i32x4 q = quantise_f32x4(p, r, low, high) + (int32_t)p->y_zero_point;
    AC_STORE(i8x4, (int8_t *)y + 4 * quad * p->y_plane, __builtin_convertvector(q, i8x4));
  }
}
