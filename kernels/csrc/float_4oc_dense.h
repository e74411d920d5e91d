/* Included by float_4oc.h: the exported function of a dense kernel.
 *
 * Positions are cut into panels of a few tiles. The inputs of a panel are gathered, because the same lines of distant planes would be
 * more pages than a TLB has entries; then come all rows, 4 at a time, and for them all tiles of the panel. So weights are read once for
 * a panel, and outputs written in longer runs. A panel has as many tiles as inputs leave room for in L1. Of more than AC_PANEL_DEPTH
 * inputs it takes a part at a time, of one tile, and keeps the sums.
 */
#define MOST_TILES 8

/* Inputs whose weights are one vector, where lanes are rows. */
#if REAL_LANES >= 8
#define PAIR 2
#define PAIR_LANES 8
#else
#define PAIR 1
#define PAIR_LANES 4
#endif

#define COLUMNS 1
#define COLUMN(name) AC_JOIN(column_, name)
#define CHAINS 4
#include "float_4oc_column.h"

#define COLUMNS 4
#define COLUMN(name) AC_JOIN(columns_, name)
#define CHAINS 2
#include "float_4oc_column.h"

/* As many as `most` wide tiles from `position` on, and the one or two narrower ones behind the last of all. */
static int64_t cut(const ac_problem *p, const ac_view *view, int64_t position, int64_t most, ac_gathered *tiles) {
  int64_t count = 0;
  while (position < view->positions && count <= most) {
    const ac_tile next = ac_next_tile(view, position, WIDE, MIDDLE, NARROW);
    const ac_tile tile = position + 1 == view->positions ? (ac_tile){position, 1} : next;
    if (tile.width == WIDE && count == most) break;
    tiles[count++] = (ac_gathered){ac_place_of(p, view, tile.at, tile.width), tile.at, tile.width, NULL};
    position = tile.at + tile.width;
  }
  return count;
}

/* WIDTH inputs of each of `count` planes; and what the next panel gathers there comes nearer. */
#define AC_DEFINE_GATHER(name, width)                                                                                       \
  static void name(element *to, const element *from, int64_t plane, int64_t count, int64_t panel) {                         \
    for (; count > 0; count--, from += plane, to += width) {                                                                \
      memcpy(to, from, width * sizeof *to);                                                                                 \
      FETCH(from + panel + width / 2, 0);                                                                                   \
      FETCH(from + panel + width - 1, 0);                                                                                   \
    }                                                                                                                       \
  }
AC_DEFINE_GATHER(gather_wide, WIDE)
AC_DEFINE_GATHER(gather_middle, MIDDLE)

/* The inputs first to first + depth of tiles, of which the first `wide` are wide. */
static void gather(const ac_problem *p, const ac_view *view, const element *x, ac_gathered *tiles, int64_t count, int64_t wide,
                   int64_t first, int64_t depth, element *panel) {
  const int64_t plane = view->plane;
  for (int64_t t = 0; t < count; t++) tiles[t].inputs = panel + t * depth * WIDE;
  for (int64_t n = 0, run; n < depth; n += run) {
    const int64_t window = (first + n) / p->columns, column = (first + n) % p->columns;
    run = p->columns - column < depth - n ? p->columns - column : depth - n;
    const element *planes = x + p->offsets[window] + column * plane;
    for (int64_t t = 0; t < count; t++) {
      const element *from = planes + tiles[t].at;
      element *to = panel + t * depth * WIDE;
      if (tiles[t].width == WIDE)
        gather_wide(to + n * WIDE, from, plane, run, wide * WIDE);
      else if (tiles[t].width == MIDDLE)
        gather_middle(to + n * MIDDLE, from, plane, run, 0);
      else if (tiles[t].width == NARROW)
        for (int64_t i = 0; i < run; i++) columns_gather(to, n + i, depth, from + i * plane);
      else
        for (int64_t i = 0; i < run; i++) column_gather(to, n + i, depth, from + i * plane);
    }
  }
}

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) PAD(p, &view, x, scratch);
  const element *from = view.copied ? scratch : x;
  if (view.positions == 1) {
    single_pixel(p, &view, from, y, 0);
    return;
  }
  /* ac_scratch_bytes knows of room for twice AC_PANEL_DEPTH inputs of a tile, and for the sums of two tiles. */
  element *panel = (element *)((char *)scratch + ac_copy_bytes(&view, p->columns, sizeof *from));
  real *partial = (real *)(panel + 2 * AC_PANEL_DEPTH * WIDE);
  const int64_t inputs = p->kernel_height * p->kernel_width * p->columns;
  const int64_t parts = (inputs + AC_PANEL_DEPTH - 1) / AC_PANEL_DEPTH;
  const int64_t most_depth = ((inputs + parts - 1) / parts + 3) / 4 * 4;
  const int64_t room = parts == 1 ? AC_PANEL_DEPTH / most_depth : 1, most = room < MOST_TILES ? room : MOST_TILES;
  ac_gathered tiles[MOST_TILES + 1];
  for (int64_t position = 0; position < view.positions;) {
    const int64_t count = cut(p, &view, position, most, tiles);
    int64_t wide = 0;
    while (wide < count && tiles[wide].width == WIDE) wide++;
    position = tiles[count - 1].at + tiles[count - 1].width;
    for (int64_t first = 0; first < inputs; first += most_depth) {
      const int64_t depth = inputs - first < most_depth ? inputs - first : most_depth;
      gather(p, &view, from, tiles, count, wide, first, depth, panel);
      const ac_part part = {p, &view, y, depth, first == 0, first + depth == inputs, 4 * inputs, bounds_of(p)};
      for (int64_t row = 0; row < p->rows; row += 4) {
        const element *weights = (const element *)p->weights + row * inputs + 4 * first;
        real *own = partial + row * 2 * WIDE;
        tile_wide(&part, tiles, wide, row, weights, own);
        own += wide * 4 * WIDE;
        for (const ac_gathered *tile = tiles + wide; tile != tiles + count; tile++, own += 4 * WIDE) {
          if (tile->width == MIDDLE)
            tile_middle(&part, tile, 1, row, weights, own);
          else if (tile->width == NARROW)
            columns_tile(&part, tile, row, weights, own);
          else
            column_tile(&part, tile, row, weights, own);
        }
      }
    }
  }
}
