/* The s8 kernels in which 4 output channels share their quads of input channels; dense is the case where all are shared.
 *
 * The kernel's file defines KERNEL and SPARSE (see blocks.h), then includes this. A dense kernel gathers the inputs of a tile first if
 * it has a window (s8_dense_panel.h). The lanes of
 * a vector are pixels, each with 4 input channels: what SDOT and VNNI multiply and add in one instruction (with VNNI flipped: simd.h). The 4
 * requantised outputs of a pixel are put together in registers, so outputs too are stored as whole vectors. For a
 * single pixel (a linear layer) the lanes are the 4 output channels.
 */
#include "panel.h"
#include "s8.h"

#define BLOCK_ELEMENT int8_t
#define STEP 16
#define UNIT 4
#include "blocks.h"

#define NARROW 4
#if AC_VNNI
#define WIDE NARROW
#define MIDDLE NARROW
#define LANES_WIDE 16
#define MOST_VECTORS 5
#else
#define WIDE 16
#define MIDDLE 8
#define LANES_WIDE AC_S8_LANES
#endif

#if !SPARSE
/* What the rows of a panel share: its inputs and how many quads they are, and whether they are the first and the last ones. */
typedef struct {
  const ac_problem *p;
  const ac_view *view;
  void *y;
  const int8_t *inputs;
  int64_t depth, first, last;
  float low, high;
} ac_part;

typedef void ac_part_function(const ac_part *part, const ac_place *place, int64_t row, const int8_t *weights, int32_t *own);

/* A way to compute by panels: widths of tiles, what computes 4 rows of one, and what gathers its inputs. */
typedef struct {
  int64_t widths[3];
  ac_part_function *run[3];
  void (*gather)(const ac_problem *p, const ac_source *source, const ac_place *place, const int32_t *offsets, int64_t first, int64_t depth,
                 ac_cuts *cuts, void *panel);
} ac_panels;
#endif

#if AC_VNNI
#define TILE_FILE "s8_4oc_tile.h"
#include "s8_vnni_tiles.h"
#else
#define TILE tile_wide
#define LANES LANES_WIDE
#define VECTORS (WIDE / LANES)
#include "s8_4oc_tile.h"

#define TILE tile_middle
#define LANES LANES_WIDE
#define VECTORS (MIDDLE / LANES)
#include "s8_4oc_tile.h"
#endif

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "s8_4oc_tile.h"

#if SPARSE
#define SEGMENTS 1
#define COUNT p->counts[row / 4]
#define QUAD(n) *(const i32_memory *)(x + 4 * (int64_t)offsets[n])
#else
#define SEGMENTS p->kernel_height * p->kernel_width
#define COUNT (p->columns + 3) / 4
#define QUAD(n) *(const i32_memory *)(x + 4 * (offsets[segment] + (n) * view->plane))
#endif

static void single_pixel(const ac_problem *p, const ac_view *view, const int8_t *x, void *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, 1);
  if (!place.whole) return;
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += 4 * position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    /* 4 independent sums hide the latency of the dot product. */
    i32x4 sum[4] = {AC_LOAD(i32x4, p->start + row)};
    for (int64_t segment = 0; segment < SEGMENTS; segment++) {
      const int64_t count = COUNT;
      int64_t n = 0;
      for (; n + 4 <= count; n += 4)
        for (int i = 0; i < 4; i++)
          sum[i] = dot4_i32x4(sum[i], AC_SPLAT(i32x4, QUAD(n + i)), AC_LOAD(i32x4, weights + 16 * (n + i)));
      for (; n < count; n++) sum[0] = dot4_i32x4(sum[0], AC_SPLAT(i32x4, QUAD(n)), AC_LOAD(i32x4, weights + 16 * n));
      weights += 16 * count;
    }
    if (SPARSE) offsets += COUNT;
    store_pixel(p, row, (sum[0] + sum[1]) + (sum[2] + sum[3]), &place, y);
  }
}

static const int32_t *begin_of(const ac_problem *p, void *room) {
#if AC_VNNI
  const int8_t *weights = p->weights;
  for (int64_t row = 0; row < p->rows; weights += 16 * p->counts[row / 4], row += 4)
    AC_STORE(i32x4, (int32_t *)room + row, AC_LOAD(i32x4, p->start + row) - add_quads(flipped(weights, 4 * p->counts[row / 4])));
  return room;
#else
  (void)room;
  return p->start;
#endif
}

#define VIEW_OF ac_view_of
#define PAD(p, view, x, scratch) ac_slack4(ac_pad4(p, view, x, ((p)->columns + 3) / 4, s8_fill(p), scratch), s8_fill(p))
#include "walk.h"
