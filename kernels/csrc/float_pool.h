/* Max and average pooling of f32 and f16 planes, one channel after the other. Included with AC_HALF defined (see float.h).
 *
 * Padding is -infinity for max (max_pool.h), 0 for average; an average is a sum times ac_pool_factors.
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

static void single_pixel(const ac_problem *p, const ac_view *view, const float *factors, const element *x, element *y, int64_t at) {
  const ac_place place = ac_place_of(p, view, at, 1);
  if (!place.whole) return;
  real sum = (real)x[at + p->offsets[0]];
  for (int64_t w = 1; w < p->kernel_height * p->kernel_width; w++) sum += (real)x[at + p->offsets[w]];
  store_single(p, (real)((float)sum * factors[at]), y + place.pixel);
}

void AC_JOIN(ac_, AC_FLOAT(avg_pool))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  float *factors = scratch;
  element *copy = (element *)(factors + ac_pool_factor_count(&view));
  ac_pool_factors(p, &view, 1.0f, factors);
  if (view.copied) ac_slack((void *)(copy + view.plane), 0);
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = (const element *)x + channel * p->x_plane;
    element *to = (element *)y + channel * p->y_plane;
    if (view.copied) {
      ac_pad(p, &view, from, 1, 0, copy);
      from = copy;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, WIDE, NARROW, NARROW);
      if (tile.width == WIDE)
        tile_wide(p, &view, factors, from, to, tile.at);
      else if (tile.width == NARROW)
        tile_narrow(p, &view, factors, from, to, tile.at);
      else
        single_pixel(p, &view, factors, from, to, tile.at);
      position = tile.at + tile.width;
    }
  }
}

#undef WIDE
#define WIDE REAL_LANES
#define pixel element
#define VECTOR REALS
#define LOAD LOAD_REALS
#if defined(AC_NATIVE_HALF)
#define LARGER(width, a, b) AC_SELECT(REALS(width), MASKS(width), (b) > (a), b, a)
#else
#define LARGER(width, a, b) AC_JOIN(larger_f32x, width)(b, a)
#endif
#define KEEP(width, p, to, v) STORE_REALS(width, to, v)
#define FINAL(width, p, to, v) STORE_REALS(width, to, FINISH(width)(p, bounds_of(p), v))
#define ONLY(from) AC_SPLAT(REALS(4), (real)*(from))
#define KEEP_FIRST(p, to, v) *(to) = (element)(v)[0]
#define FINAL_FIRST(p, to, v) store_single(p, (v)[0], to)
#define ac_fill(to, count, fill) AC_FILL((void *)(to), count, bits_of(fill))
#define ac_pick(to, from, step, count) AC_PICK((void *)(to), (const void *)(from), step, count)

static inline uint32_t bits_of(element fill) {
  uint32_t bits = 0;
  memcpy(&bits, &fill, sizeof fill);
  return bits;
}

#include "max_pool.h"

void AC_JOIN(ac_, AC_FLOAT(max_pool))(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  max_pool(p, p->rows, x, y, scratch, (element)-INFINITY);
}
