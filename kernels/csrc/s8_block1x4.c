/* int8, block1x4: every output channel keeps its own quads of input channels. Tiles of 1 output channel x 32 pixels.
 *
 * Packing, rows padded to a multiple of 4 with rows that keep nothing, columns padded with zeros to a multiple of 4:
 *   counts[rows]: kept quads of every row
 *   offsets[sum of counts]: quad * x_plane of every kept block, row after row, columns ascending
 *   weights[sum of counts][4]: the weights of every kept block
 */
#include "ac_kernels.h"
#include "simd.h"

#define WIDE 32
#define MIDDLE 8
#define NARROW 4

#define TILE tile_wide
#define LANES AC_S8_LANES
#define VECTORS (WIDE / LANES)
#include "s8_1oc_tile.h"

#define TILE tile_middle
#define LANES AC_S8_LANES
#define VECTORS (MIDDLE / LANES)
#include "s8_1oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "s8_1oc_tile.h"

#define QUAD(n) (*(const i32_memory *)(x + 4 * (size_t)offsets[n]))

/* With one pixel the lanes are 4 kept blocks of the row, their inputs gathered. */
static void single_pixel(const ac_s8_problem *p, const int8_t *x, int8_t *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (size_t group = 0; group < p->rows; group += 4) {
    i32x4 total = AC_LOAD(i32x4, p->bias + group);
    for (int i = 0; i < 4; i++) {
      const size_t count = (size_t)p->counts[group + (size_t)i];
      i32x4 sums = {0};
      size_t n = 0;
      for (; n + 4 <= count; n += 4)
        sums = dot4_i32x4(sums, (i32x4){QUAD(n), QUAD(n + 1), QUAD(n + 2), QUAD(n + 3)}, AC_LOAD(i32x4, weights + 4 * n));
      for (; n < count; n++)
        sums = dot4_i32x4(sums, (i32x4){QUAD(n)}, (i32x4){*(const i32_memory *)(weights + 4 * n)});
      total[i] += (sums[0] + sums[1]) + (sums[2] + sums[3]);
      weights += 4 * count;
      offsets += count;
    }
    const i32x4 q = requantise_i32x4(total, AC_LOAD(i32x4, p->multiplier + group), AC_LOAD(i32x4, p->shift + group),
                                     p->y_zero_point, p->low, p->high);
    for (int i = 0; i < 4; i++) y[group * p->y_plane + (size_t)i] = (int8_t)q[i];
  }
}

void ac_s8_block1x4(const ac_s8_problem *p, const int8_t *x, int8_t *y) {
  size_t pixel = 0;
  for (; p->pixels - pixel >= WIDE; pixel += WIDE) tile_wide(p, x + 4 * pixel, y + 4 * pixel);
  for (; p->pixels - pixel >= MIDDLE; pixel += MIDDLE) tile_middle(p, x + 4 * pixel, y + 4 * pixel);
  for (; p->pixels - pixel >= NARROW; pixel += NARROW) tile_narrow(p, x + 4 * pixel, y + 4 * pixel);
  for (; pixel < p->pixels; pixel++) single_pixel(p, x + 4 * pixel, y + 4 * pixel);
}
