/* The f32 kernels in which 4 output channels share their input channels; dense is the case where all are shared.
 *
 * The kernel's file defines KERNEL, COUNT(group), OFFSET(n) and SKIP(offsets, count), then includes this. Pixels are
 * cut into tiles, the widest first; a tile's inputs stay in L1 while the weights of all rows stream past. A single
 * pixel (a linear layer) has nothing to vectorise along, so there the 4 output channels are the lanes.
 */
#include "ac_kernels.h"
#include "simd.h"

/* 16 pixels also on AVX2, where 24 would just fill its 16 registers: compilers then move sums about, at half the speed. */
#if AC_F32_LANES == 16
#define WIDE 32
#define MIDDLE 16
#else
#define WIDE 16
#define MIDDLE 8
#endif
#define NARROW 4

#define TILE tile_wide
#define LANES AC_F32_LANES
#define VECTORS (WIDE / LANES)
#include "f32_4oc_tile.h"

#define TILE tile_middle
#define LANES AC_F32_LANES
#define VECTORS (MIDDLE / LANES)
#include "f32_4oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "f32_4oc_tile.h"

static void single_pixel(const ac_f32_problem *p, const float *x, float *y) {
  const float *weights = p->weights;
  const int32_t *offsets = p->offsets;
  (void)offsets;
  for (size_t row = 0; row < p->rows; row += 4) {
    const size_t count = COUNT(row / 4);
    /* 4 independent sums hide the latency of the multiply-add. */
    f32x4 sum[4] = {AC_LOAD(f32x4, p->bias + row)};
    size_t n = 0;
    for (; n + 4 <= count; n += 4)
      for (int i = 0; i < 4; i++) sum[i] += AC_LOAD(f32x4, weights + 4 * (n + i)) * x[OFFSET(n + i)];
    for (; n < count; n++) sum[0] += AC_LOAD(f32x4, weights + 4 * n) * x[OFFSET(n)];
    const f32x4 total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int i = 0; i < 4; i++) {
      if (row + i >= p->rows) break;
      const float floored = total[i] < p->low ? p->low : total[i];
      y[(row + i) * p->y_plane] = floored > p->high ? p->high : floored;
    }
    weights += 4 * count;
    SKIP(offsets, count);
  }
}

void KERNEL(const ac_f32_problem *p, const float *x, float *y) {
  size_t pixel = 0;
  for (; p->pixels - pixel >= WIDE; pixel += WIDE) tile_wide(p, x + pixel, y + pixel);
  for (; p->pixels - pixel >= MIDDLE; pixel += MIDDLE) tile_middle(p, x + pixel, y + pixel);
  for (; p->pixels - pixel >= NARROW; pixel += NARROW) tile_narrow(p, x + pixel, y + pixel);
  for (; pixel < p->pixels; pixel++) single_pixel(p, x + pixel, y + pixel);
}
