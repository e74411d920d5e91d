/* The float kernels in which 4 output channels share their input channels; dense is the case where all are shared.
 *
 * The kernel's file defines KERNEL, AC_HALF (see float.h) and SPARSE (see blocks.h), then includes this. Pixels are cut into tiles, the widest first; a tile's inputs stay in L1 while the
 * weights of all rows stream past. A single pixel (a linear layer) has nothing to vectorise along, so there the 4 output channels
 * are the lanes.
 */
#include "float.h"

#define BLOCK_ELEMENT element
#define STEP 4
#define UNIT 1
#include "blocks.h"

/* 16 pixels also on AVX2, where 24 would just fill its 16 registers: compilers then move sums about, at half the speed. */
#if AC_F32_LANES == 16 || defined(AC_NATIVE_HALF)
#define WIDE 32
#define MIDDLE 16
#else
#define WIDE 16
#define MIDDLE 8
#endif
#define NARROW 4

#define TILE tile_wide
#define LANES REAL_LANES
#define VECTORS (WIDE / LANES)
#include "float_4oc_tile.h"

#define TILE tile_middle
#define LANES REAL_LANES
#define VECTORS (MIDDLE / LANES)
#include "float_4oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "float_4oc_tile.h"

static void single_pixel(const ac_problem *p, const ac_view *view, const element *x, element *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, 1);
  if (!place.whole) return;
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    /* 4 independent sums in turn hide the latency of the multiply-add. */
    REALS(4) sum[4] = {__builtin_convertvector(AC_LOAD(f32x4, p->bias + row), REALS(4))};
    EACH_BLOCK(row / 4) {
      const REALS(4) next = sum[0] + LOAD_REALS(4, weights) * (real)*BLOCK_INPUT;
      sum[0] = sum[1];
      sum[1] = sum[2];
      sum[2] = sum[3];
      sum[3] = next;
    }
    const REALS(4) total = FINISH(4)(p, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int i = 0; i < 4 && row + i < p->rows; i++) y[(row + i) * p->y_plane + place.pixel] = (element)total[i];
  }
}

#define PAD(p, view, x, scratch) ac_slack(ac_pad(p, view, x, (p)->columns, 0, scratch), 0)
#include "walk.h"
