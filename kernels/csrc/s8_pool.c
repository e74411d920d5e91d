/* Max and average pooling of int8 quads, one quad of channels after the other, 4 positions at a time.
 *
 * Max leaves codes as they are (their format is that of x); padding is -128. An average sums codes, with padding at the zero point:
 * r = float(sum - window * x_zero_point) * factor, with factor = x_scale / the number of inputs that count (pool.c).
 */
#include "pool.h"
#include "s8.h"

#define WIDE 8
#define NARROW 4

static inline i32x4 load_codes(const int8_t *x) { return __builtin_convertvector(AC_LOAD(i8x4, x), i32x4); }

static void average_pixel(const ac_problem *p, const int8_t *x, float factor, int8_t *codes) {
  const int64_t windows = p->kernel_height * p->kernel_width;
  i32x4 sum = {0};
  for (int64_t w = 0; w < windows; w++) sum += load_codes(x + 4 * p->offsets[w]);
  const f32x4 r = __builtin_convertvector(sum - (int32_t)(windows * p->x_zero_point), f32x4) * factor;
  const i32x4 q = quantise_f32x4(p, r, low_code(p), high_code(p)) + (int32_t)p->y_zero_point;
  AC_STORE(i8x4, codes, __builtin_convertvector(q, i8x4));
}

void ac_s8_avg_pool(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  const uint32_t fill = s8_fill(p);
  float *factors = scratch;
  int8_t *copy = (int8_t *)(factors + ac_pool_factor_count(&view));
  ac_pool_factors(p, &view, p->x_scale, factors);
  if (view.copied) ac_slack4((uint32_t *)copy + view.plane, fill);
  for (int64_t quad = 0; quad < (p->rows + 3) / 4; quad++) {
    const int8_t *from = (const int8_t *)x + 4 * quad * p->x_plane;
    int8_t *to = (int8_t *)y + 4 * quad * p->y_plane;
    if (view.copied) {
      ac_pad4(p, &view, from, 1, fill, copy);
      from = copy;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, NARROW, NARROW, NARROW);
      const ac_place place = ac_place_of(p, &view, tile.at, tile.width);
      int8_t codes[4 * NARROW];
      for (int64_t i = 0; i < tile.width; i++)
        average_pixel(p, from + 4 * (tile.at + i), factors[tile.at + i], codes + 4 * i);
      ac_scatter4(p, &view, &place, codes, to);
      position = tile.at + tile.width;
    }
  }
}

typedef uint32_t quad_memory __attribute__((may_alias)); /* a pixel: 4 codes */

#define pixel quad_memory
#define BYTES(width) AC_JOIN(bytes_, width)
typedef i8x16 bytes_4;
typedef i8x32 bytes_8;
typedef i8x16_memory bytes_4_memory;
typedef i8x32_memory bytes_8_memory;
#define VECTOR BYTES
#define LOAD(width, from) AC_LOAD(BYTES(width), from)
#define LARGER(width, a, b) AC_SELECT(BYTES(width), BYTES(width), (b) > (a), b, a)
#define KEEP(width, p, to, v) AC_STORE(BYTES(width), to, v)
#define FINAL KEEP
#define ONLY(from) ((i8x16)(u32x4){*(from)})
#define KEEP_FIRST(p, to, v) *(to) = ((u32x4)(v))[0]
#define FINAL_FIRST KEEP_FIRST
#define ac_fill ac_fill4
#define ac_pick ac_pick4
#include "max_pool.h"

void ac_s8_max_pool(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  max_pool(p, (p->rows + 3) / 4, x, y, scratch, 0x80808080u);
}
