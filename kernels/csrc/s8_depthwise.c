/* Depthwise convolution in int8, of any window: one quad of channels after the other, vectors of [positions][4 channels].
 *
 * Inputs are widened to int16, where two products can be added before they are widened again to int32: |w| <= 127, so
 * 2 * 128 * 127 = 32512 fits. Hence positions of the window are taken in pairs. Packing, rows padded with zeros to a multiple of 4:
 *   weights[rows / 4][window, padded with zeros to an even number][4] in int16
 */
#include "s8.h"

/* Bytes of a vector of inputs; its sums take two vectors of int32. */
#if defined(__AVX2__)
#define LANES 16
#else
#define LANES 8
#endif
#define SHORTS AC_JOIN(i16x, LANES)
#define INTS AC_JOIN(i32x, LANES)
#define BYTES AC_JOIN(i8x, LANES)
#define VECTORS 4
#define NARROW (LANES / 4)
#define WIDE (VECTORS * NARROW)

static inline SHORTS splat_shorts(const int16_t *w) {
  const i16x4 four = AC_LOAD(i16x4, w);
#if LANES == 16
  return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
#else
  return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3);
#endif
}

static inline SHORTS load_shorts(const int8_t *x) { return __builtin_convertvector(AC_LOAD(BYTES, x), SHORTS); }

/* The outputs of 4 channels at LANES / 4 positions. */
static inline void store_codes(const ac_problem *p, int64_t row, const int32_t *sums, float low, float high, int8_t *y) {
  for (int n = 0; n < LANES; n += 4) {
    const f32x4 wide = __builtin_convertvector(AC_LOAD(i32x4, sums + n), f32x4);
    const f32x4 r = fma_f32x4(wide, AC_LOAD(f32x4, p->scale + row), AC_LOAD(f32x4, p->bias + row));
    const i32x4 q = quantise_f32x4(p, r, low, high) + (int32_t)p->y_zero_point;
    AC_STORE(i8x4, y + n, __builtin_convertvector(q, i8x4));
  }
}

#define TILE tile_wide
#define COUNT VECTORS
#include "s8_depthwise_tile.h"

#define TILE tile_narrow
#define COUNT 1
#include "s8_depthwise_tile.h"

static void single_pixel(const ac_problem *p, const ac_view *view, int64_t row, const int8_t *x, void *y, int64_t at) {
  const ac_place place = ac_place_of(p, view, at, 1);
  if (!place.whole) return;
  const int64_t windows = p->kernel_height * p->kernel_width;
  const int16_t *weights = (const int16_t *)p->weights + row * ((windows + 1) / 2 * 2);
  i32x4 sum = AC_LOAD(i32x4, p->start + row);
  for (int64_t w = 0; w < windows; w++) {
    const i32x4 input = __builtin_convertvector(AC_LOAD(i8x4, x + 4 * (at + p->offsets[w])), i32x4);
    sum += input * __builtin_convertvector(AC_LOAD(i16x4, weights + 4 * w), i32x4);
  }
  store_pixel(p, row, sum, &place, y);
}

void ac_s8_depthwise(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) ac_slack4((uint32_t *)scratch + view.plane, s8_fill(p));
  for (int64_t row = 0; row < p->rows; row += 4) {
    const int8_t *from = (const int8_t *)x + row * p->x_plane;
    if (view.copied) {
      ac_pad4(p, &view, from, 1, s8_fill(p), scratch);
      from = scratch;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, WIDE, NARROW, NARROW);
      if (tile.width == WIDE)
        tile_wide(p, &view, row, from, y, tile.at);
      else if (tile.width == NARROW)
        tile_narrow(p, &view, row, from, y, tile.at);
      else
        single_pixel(p, &view, row, from, y, tile.at);
      position = tile.at + tile.width;
    }
  }
}
