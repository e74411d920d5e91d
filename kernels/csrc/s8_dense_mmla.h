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
                        int64_t depth, ac_cuts *cuts, void *panel) {
  int8_t *to = panel;
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

static const ac_panels mmla_panels = {
    {MMLA_WIDE, MMLA_MIDDLE, MMLA_NARROW}, {mmla_wide_part, mmla_middle_part, mmla_narrow_part}, mmla_gather};
