/* The s8 kernels in which 4 output channels share their quads of input channels; dense is the case where all are shared.
 *
 * The kernel's file defines KERNEL, COUNT(group), OFFSET(n) and SKIP(offsets, count), then includes this. The lanes of
 * a vector are pixels, each with 4 input channels: what SDOT and VNNI multiply and add in one instruction. The 4
 * requantised outputs of a pixel are put together in registers, so outputs too are stored as whole vectors. For a
 * single pixel (a linear layer) the lanes are the 4 output channels.
 */
#include "ac_kernels.h"
#include "simd.h"

#define WIDE 16
#define MIDDLE 8
#define NARROW 4

#define TILE tile_wide
#define LANES AC_S8_LANES
#define VECTORS (WIDE / LANES)
#include "s8_4oc_tile.h"

#define TILE tile_middle
#define LANES AC_S8_LANES
#define VECTORS (MIDDLE / LANES)
#include "s8_4oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "s8_4oc_tile.h"

#define QUAD(n) AC_SPLAT(i32x4, *(const i32_memory *)(x + 4 * OFFSET(n)))

static void single_pixel(const ac_s8_problem *p, const int8_t *x, int8_t *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  (void)offsets;
  for (size_t row = 0; row < p->rows; row += 4) {
    const size_t count = COUNT(row / 4);
    /* 4 independent sums hide the latency of the dot product. */
    i32x4 sum[4] = {AC_LOAD(i32x4, p->bias + row)};
    size_t n = 0;
    for (; n + 4 <= count; n += 4)
      for (int i = 0; i < 4; i++)
        sum[i] = dot4_i32x4(sum[i], QUAD(n + i), AC_LOAD(i32x4, weights + 16 * (n + i)));
    for (; n < count; n++) sum[0] = dot4_i32x4(sum[0], QUAD(n), AC_LOAD(i32x4, weights + 16 * n));
    const i32x4 q = requantise_i32x4((sum[0] + sum[1]) + (sum[2] + sum[3]), AC_LOAD(i32x4, p->multiplier + row),
                                     AC_LOAD(i32x4, p->shift + row), p->y_zero_point, p->low, p->high);
    for (int i = 0; i < 4; i++) y[row * p->y_plane + i] = (int8_t)q[i];
    weights += 16 * count;
    SKIP(offsets, count);
  }
}

void KERNEL(const ac_s8_problem *p, const int8_t *x, int8_t *y) {
  size_t pixel = 0;
  for (; p->pixels - pixel >= WIDE; pixel += WIDE) tile_wide(p, x + 4 * pixel, y + 4 * pixel);
  for (; p->pixels - pixel >= MIDDLE; pixel += MIDDLE) tile_middle(p, x + 4 * pixel, y + 4 * pixel);
  for (; p->pixels - pixel >= NARROW; pixel += NARROW) tile_narrow(p, x + 4 * pixel, y + 4 * pixel);
  for (; pixel < p->pixels; pixel++) single_pixel(p, x + 4 * pixel, y + 4 * pixel);
}
