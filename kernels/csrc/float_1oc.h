/* The float kernels in which every output channel keeps its own inputs: tiles of 1 output channel x 8 vectors of pixels.
 *
 * The kernel's file defines KERNEL and AC_HALF (see float.h), then includes this.
 */
#include "float.h"

#define WIDE (8 * REAL_LANES)
#define HALF (4 * REAL_LANES)
#define MIDDLE (2 * REAL_LANES)
#define NARROW 4

#define TILE tile_wide
#define LANES REAL_LANES
#define VECTORS (WIDE / LANES)
#include "float_1oc_tile.h"

#define TILE tile_half
#define LANES REAL_LANES
#define VECTORS (HALF / LANES)
#include "float_1oc_tile.h"

#define TILE tile_middle
#define LANES REAL_LANES
#define VECTORS (MIDDLE / LANES)
#include "float_1oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "float_1oc_tile.h"

/* The tile of one position: the lanes are 4 kept weights of the row, their inputs gathered. */
static void single_pixel(const ac_problem *p, const ac_view *view, const ac_spot *spot, int64_t count, const element *x, element *y) {
  (void)view, (void)count;
  if (!spot->place.whole) return;
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += spot->position;
  for (int64_t row = 0; row < p->rows; row++) {
    const int64_t kept = p->counts[row];
    REALS(4) sums = {(real)p->bias[row]};
    int64_t n = 0;
    for (; n + 4 <= kept; n += 4) {
      const REALS(4) input = {(real)x[offsets[n]], (real)x[offsets[n + 1]], (real)x[offsets[n + 2]], (real)x[offsets[n + 3]]};
      sums += input * LOAD_REALS(4, weights + n);
    }
    real total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (; n < kept; n++) total += (real)x[offsets[n]] * (real)weights[n];
    store_single(p, total, y + row * p->y_plane + spot->place.pixel);
    weights += kept;
    offsets += kept;
  }
}

#define PAD(p, view, x, scratch) ac_slack(ac_pad(p, view, x, (p)->columns, 0, scratch), 0)
#define TILES {WIDE, tile_wide}, {HALF, tile_half}, {MIDDLE, tile_middle}, {NARROW, tile_narrow}
#define NEAR_BYTES 0
#include "float_sparse.h"
