/* The float kernels in which 4 output channels share their input channels; dense is the case where all are shared.
 *
 * The kernel's file defines KERNEL, AC_HALF (see float.h) and SPARSE (0 or 1), then includes this. Positions are cut into tiles, the
 * widest first; the inputs of a tile stay in L1 while the weights of all rows stream past. A dense kernel gathers them first
 * (float_4oc_dense.h), a sparse one takes several tiles at a time (float_sparse.h). A single pixel (a linear layer) has nothing to
 * vectorise along, so there the 4 output channels are the lanes.
 */
#include "float.h"
#include "panel.h"

/* Groups of 4 rows that the tiles of most rows have. */
#if SPARSE
#define MOST_GROUPS 1
#else
#define MOST_GROUPS AC_FLOAT_GROUPS
#endif
#if MOST_GROUPS == 2 /* 24 sums, 3 inputs and a weight of 32 registers */
#define WIDE 48
#define MIDDLE 16
#elif AC_F32_LANES == 16 || defined(AC_NATIVE_HALF)
#define WIDE 32
#define MIDDLE 16
#elif AC_F32_LANES == 8 /* 12 sums, 3 inputs and a weight of 16 registers */
#define WIDE 24
#define MIDDLE 8
#else
#define WIDE 16
#define MIDDLE 8
#endif
#define NARROW 4

#if !SPARSE
/* A tile's place in y, and its inputs, which are `step` apart: gathered, or where they are in x. With `joined` the next tile is a single
 * position that comes with this one. */
typedef struct {
  ac_place place;
  element *inputs;
  int64_t step, joined;
} ac_gathered;

/* What the next panel will be read from: of the planes `next` to `end` a run of `pixels` each, of which `each` come nearer at a
 * time. Behind the run that was read last of a plane comes the same one of the next. */
typedef struct {
  const element *from;
  const int32_t *offsets;
  int64_t pixels, next, end, each;
} ac_ahead;

/* Into L2: L1 is full of the panel. */
static inline void fetch(ac_ahead *ahead) {
#if defined(__AVX__)
  for (int64_t left = ahead->each; left > 0 && ahead->next < ahead->end; left--) {
    const element *from = ahead->from + ahead->offsets[ahead->next++];
    for (int64_t i = 64 / sizeof *from - 1; i < ahead->pixels - 1; i += 64 / sizeof *from) __builtin_prefetch(from + i, 0, 2);
    __builtin_prefetch(from + ahead->pixels - 1, 0, 2);
  }
#else
  (void)ahead;
#endif
}

/* What the tiles of a dense kernel share: how many inputs were gathered, whether they are the first and the last ones, the elements from the
 * weights of 4 rows to those of the next, and the pixels of the panel. */
typedef struct {
  const ac_problem *p;
  const ac_view *view;
  element *y;
  int64_t depth, first, last, next_weights, pixels;
  ac_bounds bounds;
  ac_ahead *ahead;
} ac_part;
#endif

#if !SPARSE
#include "float_4oc_column.h"
#endif

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

#if MOST_GROUPS == 2
#define TILE tile_wide_pair
#define LANES REAL_LANES
#define VECTORS (WIDE / LANES)
#define GROUPS 2
#include "float_4oc_tile.h"

#define TILE tile_middle_pair
#define LANES REAL_LANES
#define VECTORS (MIDDLE / LANES)
#define GROUPS 2
#include "float_4oc_tile.h"

#define TILE tile_narrow_pair
#define LANES 4
#define VECTORS (NARROW / LANES)
#define GROUPS 2
#include "float_4oc_tile.h"
#endif

#if SPARSE
#if defined(__AVX__)
static inline REALS(8) spread_pair(element first, element second) {
  const real a = (real)first, b = (real)second;
  return (REALS(8)){a, a, a, a, b, b, b, b};
}
#endif

/* The tile of one position: the lanes are 4 rows. */
static void single_pixel(const ac_problem *p, const ac_view *view, const ac_spot *spot, int64_t count, const element *x, element *y) {
  (void)view, (void)count;
  if (!spot->place.whole) return;
  const ac_bounds bounds = bounds_of(p);
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += spot->position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    const int32_t *const last = offsets + p->counts[row / 4];
    /* 4 independent sums hide the latency of the multiply-add. */
    REALS(4) sum[4] = {__builtin_convertvector(AC_LOAD(f32x4, p->bias + row), REALS(4))};
#if defined(__AVX__)
    REALS(8) pair[4] = {0}; /* of two blocks each: loads are what takes the time */
    for (; last - offsets >= 8; offsets += 8, weights += 32)
      for (int i = 0; i < 4; i++) pair[i] += LOAD_REALS(8, weights + 8 * i) * spread_pair(x[offsets[2 * i]], x[offsets[2 * i + 1]]);
    for (; last - offsets >= 2; offsets += 2, weights += 8) pair[0] += LOAD_REALS(8, weights) * spread_pair(x[offsets[0]], x[offsets[1]]);
    pair[0] = (pair[0] + pair[1]) + (pair[2] + pair[3]);
    sum[1] = __builtin_shufflevector(pair[0], pair[0], 0, 1, 2, 3);
    sum[2] = __builtin_shufflevector(pair[0], pair[0], 4, 5, 6, 7);
#else
    for (; last - offsets >= 4; offsets += 4, weights += 16)
      for (int i = 0; i < 4; i++) sum[i] += LOAD_REALS(4, weights + 4 * i) * (real)x[offsets[i]];
#endif
    for (; offsets != last; offsets++, weights += 4) sum[0] += LOAD_REALS(4, weights) * (real)x[*offsets];
    const REALS(4) total = FINISH(4)(p, bounds, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int i = 0; i < 4 && row + i < p->rows; i++) y[(row + i) * p->y_plane + spot->place.pixel] = (element)total[i];
  }
}
#else
#define SEGMENTS p->kernel_height * p->kernel_width
#define COUNT p->columns
#define INPUT(n) x[offsets[segment] + (n) * view->plane]

static void single_pixel(const ac_problem *p, const ac_view *view, const element *x, element *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, 1);
  if (!place.whole) return;
  const ac_bounds bounds = bounds_of(p);
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    /* 4 independent sums hide the latency of the multiply-add. */
    REALS(4) sum[4] = {__builtin_convertvector(AC_LOAD(f32x4, p->bias + row), REALS(4))};
    for (int64_t segment = 0; segment < SEGMENTS; segment++) {
      const int64_t count = COUNT;
      int64_t n = 0;
      for (; n + 4 <= count; n += 4) {
        AC_FETCH(weights + 4 * n + 512, 0);
        for (int i = 0; i < 4; i++) sum[i] += LOAD_REALS(4, weights + 4 * (n + i)) * (real)INPUT(n + i);
      }
      for (; n < count; n++) sum[0] += LOAD_REALS(4, weights + 4 * n) * (real)INPUT(n);
      weights += 4 * count;
    }
    const REALS(4) total = FINISH(4)(p, bounds, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int i = 0; i < 4 && row + i < p->rows; i++) y[(row + i) * p->y_plane + place.pixel] = (element)total[i];
  }
}
#endif

#define PAD(p, view, x, scratch) ac_slack(ac_pad(p, view, x, (p)->columns, 0, scratch), 0)
#if SPARSE
#define TILES {WIDE, tile_wide}, {MIDDLE, tile_middle}, {NARROW, tile_narrow}
#if defined(__AVX__)
#define NEAR_BYTES (1 << 17) /* from L2, whose latency is hidden; nearly as fast as the products */
#else
#define NEAR_BYTES (1 << 14) /* from L1 */
#endif
#include "float_sparse.h"
#else
#include "float_4oc_dense.h"
#endif
