/* Depthwise convolution in f32 and f16: one channel after the other, vectors of positions.
 *
 * The kernel's file defines KERNEL and AC_HALF (see float.h), then includes this. A channel is copied into scratch when it must be
 * padded or split (view.h), so the copy stays in L1. Packing:
 *   weights[rows][window]
 */
#include "float.h"
#include "float_depthwise_bands.h"

#define WIDE (4 * REAL_LANES)
#define NARROW 4

#define TILE tile_wide
#define LANES REAL_LANES
#define VECTORS (WIDE / LANES)
#include "float_depthwise_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "float_depthwise_tile.h"

static void single_pixel(const ac_problem *p, const ac_view *view, int64_t channel, const element *x, element *y, int64_t at) {
  const ac_place place = ac_place_of(p, view, at, 1);
  if (!place.whole) return;
  const int64_t windows = p->kernel_height * p->kernel_width;
  const element *weights = (const element *)p->weights + channel * windows;
  real sum = (real)p->bias[channel];
  for (int64_t w = 0; w < windows; w++) sum += (real)x[at + p->offsets[w]] * (real)weights[w];
  store_single(p, sum, y + place.pixel);
}

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  if (ac_is_banded(p)) {
    run_bands(p, x, y, scratch);
    return;
  }
  const ac_view view = ac_view_of(p);
  if (view.copied) ac_slack((void *)((element *)scratch + view.plane), 0);
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = (const element *)x + channel * p->x_plane;
    element *to = (element *)y + channel * p->y_plane;
    if (view.copied) {
      ac_pad(p, &view, from, 1, 0, scratch);
      from = scratch;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, WIDE, NARROW, NARROW);
      if (tile.width == WIDE)
        tile_wide(p, &view, channel, from, to, tile.at);
      else if (tile.width == NARROW)
        tile_narrow(p, &view, channel, from, to, tile.at);
      else
        single_pixel(p, &view, channel, from, to, tile.at);
      position = tile.at + tile.width;
    }
  }
}
