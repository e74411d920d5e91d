/* Max and average pooling of int8 quads, one quad of channels after the other, 4 positions at a time.
 *
 * Max leaves codes as they are (their format is that of x); padding is -128. An average sums codes, with padding at the zero point:
 * r = float(sum - window * x_zero_point) * factor, with factor = x_scale / the number of inputs that count (pool.c).
 */
#include "pool.h"
#include "s8.h"

#define WIDE 4

static void max_tile(const ac_problem *p, const int8_t *x, int8_t *codes) {
  i8x16 result = AC_LOAD(i8x16, x + 4 * p->offsets[0]);
  for (int64_t w = 1; w < p->kernel_height * p->kernel_width; w++) {
    const i8x16 next = AC_LOAD(i8x16, x + 4 * p->offsets[w]);
    result = AC_SELECT(i8x16, i8x16, next > result, next, result);
  }
  AC_STORE(i8x16, codes, result);
}

static inline i32x4 load_codes(const int8_t *x) { return __builtin_convertvector(AC_LOAD(i8x4, x), i32x4); }

static void average_pixel(const ac_problem *p, const int8_t *x, float factor, int8_t *codes) {
  const int64_t windows = p->kernel_height * p->kernel_width;
  i32x4 sum = {0};
  for (int64_t w = 0; w < windows; w++) sum += load_codes(x + 4 * p->offsets[w]);
  const f32x4 r = __builtin_convertvector(sum - (int32_t)(windows * p->x_zero_point), f32x4) * factor;
  const i32x4 q = quantise_f32x4(p, r, low_code(p), high_code(p)) + (int32_t)p->y_zero_point;
  AC_STORE(i8x4, codes, __builtin_convertvector(q, i8x4));
}

static void max_pixel(const ac_problem *p, const int8_t *x, int8_t *codes) {
  for (int i = 0; i < 4; i++) {
    codes[i] = -128;
    for (int64_t w = 0; w < p->kernel_height * p->kernel_width; w++) {
      const int8_t next = x[4 * p->offsets[w] + i];
      codes[i] = next > codes[i] ? next : codes[i];
    }
  }
}

static void pool(const ac_problem *p, const void *x, void *y, void *scratch, int is_max) {
  const ac_view view = ac_view_of(p);
  const uint32_t fill = is_max ? 0x80808080u : s8_fill(p);
  float *factors = scratch;
  int8_t *copy = (int8_t *)(factors + ac_pool_factor_count(&view));
  if (!is_max) ac_pool_factors(p, &view, p->x_scale, factors);
  if (view.copied) ac_slack4((uint32_t *)copy + view.plane, fill);
  for (int64_t quad = 0; quad < (p->rows + 3) / 4; quad++) {
    const int8_t *from = (const int8_t *)x + 4 * quad * p->x_plane;
    int8_t *to = (int8_t *)y + 4 * quad * p->y_plane;
    if (view.copied) {
      ac_pad4(p, &view, from, 1, fill, copy);
      from = copy;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, WIDE, WIDE, WIDE);
      const ac_place place = ac_place_of(p, &view, tile.at, tile.width);
      int8_t codes[4 * WIDE];
      if (is_max && tile.width == WIDE)
        max_tile(p, from + 4 * tile.at, codes);
      else
        for (int64_t i = 0; i < tile.width; i++)
          if (is_max)
            max_pixel(p, from + 4 * (tile.at + i), codes + 4 * i);
          else
            average_pixel(p, from + 4 * (tile.at + i), factors[tile.at + i], codes + 4 * i);
      ac_scatter4(p, &view, &place, codes, to);
      position = tile.at + tile.width;
    }
  }
}

void ac_s8_max_pool(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  pool(p, x, y, scratch, 1);
}

void ac_s8_avg_pool(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  pool(p, x, y, scratch, 0);
}
