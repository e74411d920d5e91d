/* fp32, unstructured: tiles of 1 output channel x 8 vectors of pixels, 32 pixels on NEON.
 *
 * Packing:
 *   counts[rows]: kept weights of every row
 *   offsets[sum of counts]: column * x_plane of every kept weight, row after row, columns ascending
 *   weights[sum of counts]: the kept weights
 */
#include "ac_kernels.h"
#include "simd.h"

#define WIDE (8 * AC_F32_LANES)
#define MIDDLE (2 * AC_F32_LANES)
#define NARROW 4

#define TILE tile_wide
#define LANES AC_F32_LANES
#define VECTORS (WIDE / LANES)
#include "f32_1oc_tile.h"

#define TILE tile_middle
#define LANES AC_F32_LANES
#define VECTORS (MIDDLE / LANES)
#include "f32_1oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "f32_1oc_tile.h"

/* With one pixel the lanes are 4 kept weights of the row, their inputs gathered. */
static void single_pixel(const ac_f32_problem *p, const float *x, float *y) {
  const float *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (size_t row = 0; row < p->rows; row++) {
    const size_t count = (size_t)p->counts[row];
    f32x4 sums = {p->bias[row]};
    size_t n = 0;
    for (; n + 4 <= count; n += 4) {
      const f32x4 input = {x[offsets[n]], x[offsets[n + 1]], x[offsets[n + 2]], x[offsets[n + 3]]};
      sums += input * AC_LOAD(f32x4, weights + n);
    }
    float total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (; n < count; n++) total += x[offsets[n]] * weights[n];
    const float floored = total < p->low ? p->low : total;
    y[row * p->y_plane] = floored > p->high ? p->high : floored;
    weights += count;
    offsets += count;
  }
}

void ac_f32_unstructured(const ac_f32_problem *p, const float *x, float *y) {
  size_t pixel = 0;
  for (; p->pixels - pixel >= WIDE; pixel += WIDE) tile_wide(p, x + pixel, y + pixel);
  for (; p->pixels - pixel >= MIDDLE; pixel += MIDDLE) tile_middle(p, x + pixel, y + pixel);
  for (; p->pixels - pixel >= NARROW; pixel += NARROW) tile_narrow(p, x + pixel, y + pixel);
  for (; pixel < p->pixels; pixel++) single_pixel(p, x + pixel, y + pixel);
}
