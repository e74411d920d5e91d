/* int8, block1x4: every output channel keeps its own quads of inputs. Tiles of 1 output channel x 32 (VNNI: 64)
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

#if AC_VNNI
#define WIDE 64
#define MIDDLE 16
#define LANES_WIDE 16
#else
#define WIDE 32
#define MIDDLE 8
#define LANES_WIDE AC_S8_LANES
#endif
#define NARROW 4

#define TILE tile_wide
#define LANES LANES_WIDE
#define VECTORS (WIDE / LANES)
#include "s8_1oc_tile.h"

#define TILE tile_middle
#define LANES LANES_WIDE
#define VECTORS (MIDDLE / LANES)
#include "s8_1oc_tile.h"

#define TILE tile_narrow
#define LANES 4
#define VECTORS (NARROW / LANES)
#include "s8_1oc_tile.h"

#define QUAD(n) (*(const i32_memory *)(x + 4 * (int64_t)offsets[n]))

/* Of all lanes: by sums of vectors, which wrap where a file's weights are not those of any packer. */
static inline int32_t total(i32x4 sums) {
  sums += __builtin_shufflevector(sums, sums, 2, 3, 0, 1);
  sums += __builtin_shufflevector(sums, sums, 1, 0, 3, 2);
  return sums[0];
}

/* With one pixel the lanes are 4 kept blocks of the row, their inputs gathered. */
static void single_pixel(const ac_problem *p, const ac_view *view, const int8_t *x, void *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, 1);
  if (!place.whole) return;
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += 4 * position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    i32x4 all;
    for (int i = 0; i < 4; i++) {
      const int64_t count = p->counts[row + i];
      i32x4 sums = {0};
      int64_t n = 0;
      for (; n + 4 <= count; n += 4)
        sums = dot4_i32x4(sums, (i32x4){QUAD(n), QUAD(n + 1), QUAD(n + 2), QUAD(n + 3)}, AC_LOAD(i32x4, weights + 4 * n));
      for (; n < count; n++) sums = dot4_i32x4(sums, (i32x4){QUAD(n)}, (i32x4){*(const i32_memory *)(weights + 4 * n)});
      all[i] = total(sums);
      weights += 4 * count;
      offsets += count;
    }
    store_pixel(p, row, AC_LOAD(i32x4, p->start + row) + all, &place, y);
  }
}

static const int32_t *begin_of(const ac_problem *p, void *room) {
#if AC_VNNI
  const int8_t *weights = p->weights;
  for (int64_t row = 0; row < p->rows; row += 4) {
    i32x4 less;
    for (int i = 0; i < 4; weights += 4 * p->counts[row + i], i++) less[i] = total(add_quads(flipped(weights, p->counts[row + i])));
    AC_STORE(i32x4, (int32_t *)room + row, AC_LOAD(i32x4, p->start + row) - less);
  }
  return room;
#else
  (void)room;
  return p->start;
#endif
}

#define PAD(p, view, x, scratch) ac_slack4(ac_pad4(p, view, x, ((p)->columns + 3) / 4, s8_fill(p), scratch), s8_fill(p))
#define KERNEL ac_s8_block1x4
#include "walk.h"
