/* Max and average pooling of f32 and f16 planes, one channel after the other. Included with AC_HALF defined (see float.h).
 *
 * Padding is -infinity for max, 0 for average; an average is a sum times ac_pool_factors.
 */
#include "float.h"
#include "pool.h"

#define WIDE (4 * REAL_LANES)
#define NARROW 4

#define TILE tile_wide
#define LANES REAL_LANES
#define VECTORS (WIDE / LANES)
#include "float_pool_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "float_pool_tile.h"

static void single_pixel(const ac_problem *p, const ac_view *view, int is_max, const float *factors, const element *x, element *y,
                         int64_t at) {
  const ac_place place = ac_place_of(p, view, at, 1);
  if (!place.whole) return;
  real result = (real)x[at + p->offsets[0]];
  for (int64_t w = 1; w < p->kernel_height * p->kernel_width; w++) {
    const real next = (real)x[at + p->offsets[w]];
    result = !is_max ? result + next : next > result ? next : result;
  }
  store_single(p, is_max ? result : (real)((float)result * factors[at]), y + place.pixel);
}

static inline void pool(const ac_problem *p, const void *x, void *y, void *scratch, int is_max) {
  const ac_view view = ac_view_of(p);
  const element fill = is_max ? (element)-INFINITY : 0;
  float *factors = scratch;
  element *copy = (element *)(factors + ac_pool_factor_count(&view));
  uint32_t bits = 0;
  memcpy(&bits, &fill, sizeof fill);
  if (!is_max) ac_pool_factors(p, &view, 1.0f, factors);
  if (view.copied) ac_slack((void *)(copy + view.plane), AC_BITS(bits));
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = (const element *)x + channel * p->x_plane;
    element *to = (element *)y + channel * p->y_plane;
    if (view.copied) {
      ac_pad(p, &view, from, 1, AC_BITS(bits), copy);
      from = copy;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, WIDE, NARROW, NARROW);
      if (tile.width == WIDE)
        tile_wide(p, &view, is_max, factors, from, to, tile.at);
      else if (tile.width == NARROW)
        tile_narrow(p, &view, is_max, factors, from, to, tile.at);
      else
        single_pixel(p, &view, is_max, factors, from, to, tile.at);
      position = tile.at + tile.width;
    }
  }
}

void AC_JOIN(ac_, AC_FLOAT(max_pool))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  pool(p, x, y, scratch, 1);
}

void AC_JOIN(ac_, AC_FLOAT(avg_pool))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  pool(p, x, y, scratch, 0);
}
