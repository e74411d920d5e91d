/* int8, block1x4: every output channel keeps its own quads of inputs. Tiles of 1 output channel x 32 pixels. With VNNI
 * they have up to 96, and a single pixel takes up to 512 inputs from registers.
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

#define TILE_FILE "s8_1oc_tile.h"
#include "s8_vnni_tiles.h"

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

/* All rows at one position, where x begins. */
static void gathered_rows(const ac_problem *p, const int8_t *x, const ac_place *place, void *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (int64_t row = 0; row < p->rows; row += 4) {
    i32x4 sums[4];
    for (int i = 0; i < 4; i++) {
      const int64_t count = p->counts[row + i];
      sums[i] = row_sums(x, offsets, weights, count);
      weights += 4 * count;
      offsets += count;
    }
    store_pixel(p, row, AC_LOAD(i32x4, p->start + row) + totals(sums), place, y);
  }
}

#if AC_VNNI
#define MOST_HELD 8 /* vectors of inputs that are kept in registers */

/* As totals, of whole vectors. */
static inline i32x4 wide_totals(const i32x16 *sums) {
  i32x16 pairs[2];
  AC_UNROLL for (int i = 0; i < 2; i++) {
    const i32x16 a = sums[2 * i], b = sums[2 * i + 1];
    pairs[i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
               __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  return add_quads(__builtin_shufflevector(pairs[0], pairs[1], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                   __builtin_shufflevector(pairs[0], pairs[1], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
}

/* The products of up to 16 kept blocks, whose inputs are picked from `held` vectors, and what flipping those adds to them. */
static inline __attribute__((always_inline)) void picked_blocks(i32x16 *own, i32x16 *more, const int held, const i32x16 *inputs, i32x16 at,
                                                                i32x16 weight) {
  const i32x16 input = held == 2 ? pick2_i32x16(inputs, at) : held == 4 ? pick4_i32x16(inputs, at) : pick8_i32x16(inputs, at);
  *own = dot4u_i32x16(*own, input, weight);
  *more = dot4u_i32x16(*more, flip_i32x16((i32x16){0}), weight);
}

/* As gathered_rows, with 16 kept blocks of a row as lanes: all inputs, `quads` of them, are held in registers. */
static inline __attribute__((always_inline)) void picked_rows(const ac_problem *p, const int held, const int8_t *x, int64_t quads,
                                                              const ac_place *place, void *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  i32x16 inputs[MOST_HELD] = {{0}};
  for (int v = 0; 16 * v < quads; v++) inputs[v] = flip_i32x16(some_quads_i32x16(x + 64 * v, quads - 16 * v < 16 ? quads - 16 * v : 16));
  for (int64_t row = 0; row < p->rows; row += 4) {
    i32x16 sums[4];
    AC_UNROLL for (int i = 0; i < 4; i++) {
      i32x16 own = {0}, more = {0};
      int64_t left = p->counts[row + i];
      for (; left >= 16; left -= 16, offsets += 16, weights += 64)
        picked_blocks(&own, &more, held, inputs, AC_LOAD(i32x16, offsets), AC_LOAD(i32x16, weights));
      if (left != 0)
        picked_blocks(&own, &more, held, inputs, some_quads_i32x16((const int8_t *)offsets, left), some_quads_i32x16(weights, left));
      offsets += left;
      weights += 4 * left;
      sums[i] = own - more;
    }
    store_pixel(p, row, AC_LOAD(i32x4, p->start + row) + wide_totals(sums), place, y);
  }
}
#endif

static void single_pixel(const ac_problem *p, const ac_view *view, const int8_t *x, void *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, 1);
  if (!place.whole) return;
  x += 4 * position;
#if AC_VNNI
  const int64_t last = view->copied ? view->plane : p->x_height * p->x_width; /* planes of x may be further apart */
  const int64_t quads = ((p->columns + 3) / 4 - 1) * view->plane + last - position;
  if (quads <= 32)
    picked_rows(p, 2, x, quads, &place, y);
  else if (quads <= 64)
    picked_rows(p, 4, x, quads, &place, y);
  else if (quads <= 16 * MOST_HELD)
    picked_rows(p, MOST_HELD, x, quads, &place, y);
  else
#endif
    gathered_rows(p, x, &place, y);
}

static const int32_t *begin_of(const ac_problem *p, void *room) {
  (void)room;
  return p->start;
}

#define VIEW_OF ac_block1x4_view_of
#define PAD(p, view, x, scratch) ac_slack4(ac_pad4(p, view, x, ((p)->columns + 3) / 4, s8_fill(p), scratch), s8_fill(p))
#define KERNEL ac_s8_block1x4
#include "walk.h"
