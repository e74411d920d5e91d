/* int8, block1x4: every output channel keeps its own quads of inputs. Tiles of 1 output channel x 32 (VNNI: up to 96)
 * pixels.
 *
 * Packing, rows padded to a multiple of 4 with rows that keep nothing, columns padded with zeros to a multiple of 4; a quad is
 * 4 columns at one position of the window:
 *   counts[rows]: kept quads of every row
 *   offsets[sum of counts]: of every kept quad, row after row, ascending
 *   weights[sum of counts][4]: the weights of every kept quad
 */
#include "s8.h"

#define BLOCK_ELEMENT int8_t
#define SPARSE 1

#define NARROW 4
#if AC_VNNI
#define WIDE NARROW
#define MIDDLE NARROW
#define LANES_WIDE 16
#define MOST_VECTORS 6 /* sums of 4 rows of so many are registers */
#define SUMS_STAY AC_UNROLL

#define TILE tile_1
#define LANES 16
#define VECTORS 1
#include "s8_1oc_tile.h"

#define TILE tile_2
#define LANES 16
#define VECTORS 2
#include "s8_1oc_tile.h"

#define TILE tile_3
#define LANES 16
#define VECTORS 3
#include "s8_1oc_tile.h"

#define TILE tile_4
#define LANES 16
#define VECTORS 4
#include "s8_1oc_tile.h"

#define TILE tile_5
#define LANES 16
#define VECTORS 5
#include "s8_1oc_tile.h"

#define TILE tile_6
#define LANES 16
#define VECTORS 6
#include "s8_1oc_tile.h"

static ac_tile_function *const tile_functions[] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

#else
#define WIDE 32
#define MIDDLE 8
#define LANES_WIDE AC_S8_LANES
#define SUMS_STAY

#define TILE tile_wide
#define LANES LANES_WIDE
#define VECTORS (WIDE / LANES)
#include "s8_1oc_tile.h"

#define TILE tile_middle
#define LANES LANES_WIDE
#define VECTORS (MIDDLE / LANES)
#include "s8_1oc_tile.h"
#endif

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "s8_1oc_tile.h"

#define QUAD(n) (*(const i32_memory *)(x + 4 * (int64_t)offsets[n]))

/* The sums of lanes of 4 vectors: they wrap where a file's weights are not those of any packer. */
static inline i32x4 totals(const i32x4 *sums) {
  const i32x4 a = AC_EVEN(4, sums[0], sums[1]) + AC_ODD(4, sums[0], sums[1]), b = AC_EVEN(4, sums[2], sums[3]) + AC_ODD(4, sums[2], sums[3]);
  return AC_EVEN(4, a, b) + AC_ODD(4, a, b);
}

/* With one pixel the lanes are 4 kept blocks of the row, their inputs gathered. */
static inline i32x4 row_sums(const int8_t *x, const int32_t *offsets, const int8_t *weights, int64_t count) {
  i32x4 sums = {0};
  int64_t n = 0;
  for (; n + 4 <= count; n += 4)
    sums = dot4_i32x4(sums, (i32x4){QUAD(n), QUAD(n + 1), QUAD(n + 2), QUAD(n + 3)}, AC_LOAD(i32x4, weights + 4 * n));
  for (; n < count; n++) sums = dot4_i32x4(sums, (i32x4){QUAD(n)}, (i32x4){*(const i32_memory *)(weights + 4 * n)});
  return sums;
}

static void single_pixel(const ac_problem *p, const ac_view *view, const int8_t *x, void *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, 1);
  if (!place.whole) return;
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += 4 * position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    i32x4 sums[4];
    for (int i = 0; i < 4; i++) {
      const int64_t count = p->counts[row + i];
      sums[i] = row_sums(x, offsets, weights, count);
      weights += 4 * count;
      offsets += count;
    }
    store_pixel(p, row, AC_LOAD(i32x4, p->start + row) + totals(sums), &place, y);
  }
}

static const int32_t *begin_of(const ac_problem *p, void *room) {
  (void)room;
  return p->start;
}

#define VIEW_OF ac_block1x4_view_of
#define PAD(p, view, x, scratch) ac_slack4(ac_pad4(p, view, x, ((p)->columns + 3) / 4, s8_fill(p), scratch), s8_fill(p))
#define KERNEL ac_s8_block1x4
#include "walk.h"
