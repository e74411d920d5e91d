/* Included by s8_dense.c where AC_I8MM is set: dense on CPUs with SMMLA, which multiplies 2 rows x 8 inputs by 8 inputs x 2 pixels: twice
 * the products of SDOT. Tiles are 4 output channels x 24 pixels.
 *
 * 8 inputs are two quads. Those of x are put side by side when a panel is gathered, once for all rows: a row of the panel is 2 quads of
 * every pixel. Those of the weights, packed as for SDOT, are in the loop: 2 permutations for 24 products. Beside an odd last quad the
 * panel has zeros. A vector of sums is 2 rows x 2 pixels until its tile ends.
 */
#define MMLA_WIDE 24
#define MMLA_MIDDLE 8
#define MMLA_NARROW 4
#define MMLA_STAGED 16 /* quads that are gathered before they are paired: an even number */

#define TILE mmla_wide
#define VECTORS (MMLA_WIDE / 4)
#include "s8_dense_mmla_tile.h"

#define TILE mmla_middle
#define VECTORS (MMLA_MIDDLE / 4)
#include "s8_dense_mmla_tile.h"

#define TILE mmla_narrow
#define VECTORS (MMLA_NARROW / 4)
#include "s8_dense_mmla_tile.h"

/* Find the quads from `first` on: where they lie in one run they stay there, others are gathered into `staged`. */
static void mmla_rows(const ac_problem *p, const ac_source *source, const ac_place *place, const int32_t *offsets, int64_t first,
                      int64_t count, ac_cuts *cuts, const ac_cut **known, int64_t *known_window, uint32_t *staged, const uint32_t **rows) {
  const int64_t quads = (p->columns + 3) / 4, width = place->width;
  const uint32_t *planes = source->planes, *from = planes + ac_first_pixel(source, place), fill = s8_fill(p);
  for (int64_t n = first, some; n < first + count; n += some, rows += some, staged += some * width) {
    /* In place, tiles are cut in another way at every position of the window. */
    const int64_t window = source->in_place ? n / quads : 0, left = source->in_place ? (window + 1) * quads - n : count;
    some = left < first + count - n ? left : first + count - n;
    if (window != *known_window) *known = ac_cut_at(p, source, place, window, cuts);
    *known_window = window;
    const ac_cut *cut = *known;
    for (int64_t i = 0; i < some; i++) rows[i] = cut->whole ? from + offsets[n + i] : staged + i * width;
    if (cut->whole) continue;
    if (cut->eights != 0)
      ac_gather_eights4(staged, from, offsets + n, some, width, fill, cut, planes, source->pixels);
    else if (width == MMLA_WIDE && source->flat != 0)
      ac_gather_masked4(staged, from, offsets + n, some, MMLA_WIDE, fill, cut, planes, source->flat);
    else
      ac_gather_rows4(staged, from, offsets + n, some, width, fill, cut);
  }
}

static void mmla_gather(const ac_problem *p, const ac_source *source, const ac_place *place, const int32_t *offsets, int64_t first,
                        int64_t depth, ac_cuts *cuts, int8_t *to) {
  uint32_t staged[MMLA_STAGED * MMLA_WIDE];
  const uint32_t zeros[MMLA_WIDE] = {0}, *rows[MMLA_STAGED + 1];
  const ac_cut *cut = NULL;
  int64_t cut_window = -1;
  for (int64_t n = 0, some; n < depth; n += some) {
    some = depth - n < MMLA_STAGED ? depth - n : MMLA_STAGED;
    mmla_rows(p, source, place, offsets, first + n, some, cuts, &cut, &cut_window, staged, rows);
    rows[some] = zeros;
    for (int64_t i = 0; i < some; i += 2)
      for (int64_t pixel = 0; pixel < place->width; pixel += 4, to += 32) {
        const i32x4 a = AC_LOAD(i32x4, rows[i] + pixel), b = AC_LOAD(i32x4, rows[i + 1] + pixel);
        AC_STORE(i32x4, to, zip_low_i32x4(a, b));
        AC_STORE(i32x4, to + 16, zip_high_i32x4(a, b));
      }
  }
}

static void dense_by_mmla(const ac_problem *p, const ac_view *outputs, const ac_source *source, int64_t inputs, void *y, void *scratch) {
  const int64_t rows = (p->rows + 3) / 4 * 4;
  int8_t *panel = scratch;
  int32_t *sums = (int32_t *)(panel + 4 * AC_PANEL_DEPTH * MMLA_WIDE), *offsets = sums + rows * MMLA_WIDE;
  ac_input_offsets(p, source, (p->columns + 3) / 4, offsets);
  for (int64_t pixel = 0; pixel < outputs->positions;) {
    const ac_tile tile = ac_next_tile(outputs, pixel, MMLA_WIDE, MMLA_MIDDLE, MMLA_NARROW);
    const ac_place place = ac_place_of(p, outputs, tile.at, tile.width);
    ac_cuts cuts;
    ac_no_cuts(&cuts);
    for (int64_t first = 0; first < inputs; first += AC_PANEL_DEPTH) {
      const int64_t depth = inputs - first < AC_PANEL_DEPTH ? inputs - first : AC_PANEL_DEPTH;
      mmla_gather(p, source, &place, offsets, first, depth, &cuts, panel);
      const ac_part part = {p, outputs, y, panel, depth, first == 0, first + depth == inputs, low_code(p), high_code(p)};
      for (int64_t row = 0; row < rows; row += 4) {
        const int8_t *weights = (const int8_t *)p->weights + STEP * (row / 4 * inputs + first);
        int32_t *own = sums + row * tile.width;
        if (tile.width == MMLA_WIDE)
          mmla_wide_part(&part, &place, row, weights, own);
        else if (tile.width == MMLA_MIDDLE)
          mmla_middle_part(&part, &place, row, weights, own);
        else
          mmla_narrow_part(&part, &place, row, weights, own);
      }
    }
    pixel = tile.at + tile.width;
  }
}
