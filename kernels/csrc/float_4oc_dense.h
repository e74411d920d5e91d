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

/* As many as `most` wide tiles from `pixel` on, and the one or two narrower ones behind the last of all. */
static int64_t cut(const ac_problem *p, const ac_view *outputs, int64_t pixel, int64_t most, ac_gathered *tiles) {
  int64_t count = 0;
  while (pixel < outputs->positions && count <= most) {
    const ac_tile next = ac_next_tile(outputs, pixel, WIDE, MIDDLE, NARROW);
    const ac_tile tile = pixel + 1 == outputs->positions ? (ac_tile){pixel, 1} : next;
    if (tile.width == WIDE && count == most) break;
    tiles[count++].place = ac_place_of(p, outputs, tile.at, tile.width);
    pixel = tile.at + tile.width;
  }
  return count;
}

/* Tiles of one run in a plane: WIDTH inputs of each of `count` planes; and what the next panel gathers there comes nearer. */
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

/* Inputs n to n + count of a tile, which are those of as many planes from `from` on. */
static void gather_tile(element *to, const element *from, int64_t plane, int64_t n, int64_t count, int64_t depth, int64_t panel,
                        const ac_gathered *tile) {
  const ac_pieces *pieces = &tile->pieces;
  const int64_t width = tile->place.width;
  if (width == WIDE && pieces->run >= 0) {
    gather_wide(to + n * WIDE, from + pieces->run, plane, count, panel);
  } else if (width == MIDDLE && pieces->run >= 0) {
    gather_middle(to + n * MIDDLE, from + pieces->run, plane, count, 0);
  } else if (width >= MIDDLE) {
    for (int64_t i = 0; i < count; i++, from += plane)
      ac_gather_row((void *)(to + (n + i) * width), (const void *)from, width, 0, pieces);
  } else {
    for (int64_t i = 0; i < count; i++, from += plane) {
      element row[NARROW];
      ac_gather_row((void *)row, (const void *)from, width, 0, pieces);
      if (width == NARROW)
        columns_gather(to, n + i, depth, row);
      else
        column_gather(to, n + i, depth, row);
    }
  }
}

/* The inputs first to first + depth of tiles, of which the first `wide` are wide. */
static void gather(const ac_problem *p, const ac_source *source, ac_gathered *tiles, int64_t count, int64_t wide, int64_t first,
                   int64_t depth, element *panel) {
  for (int64_t t = 0; t < count; t++) tiles[t].inputs = panel + t * depth * WIDE;
  for (int64_t n = 0, run; n < depth; n += run) {
    const int64_t window = (first + n) / p->columns, column = (first + n) % p->columns;
    run = p->columns - column < depth - n ? p->columns - column : depth - n;
    const element *planes = (const element *)source->planes + (source->in_place ? 0 : p->offsets[window]) + column * source->plane;
    for (int64_t t = 0; t < count; t++) {
      if (source->in_place) ac_window_pieces(p, source, &tiles[t].place, window, &tiles[t].pieces);
      gather_tile(panel + t * depth * WIDE, planes, source->plane, n, run, depth, wide * WIDE, tiles + t);
    }
  }
}

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p), outputs = ac_outputs_of(p);
  ac_source source = {x, view.plane, view.height, view.width, ac_in_place(p, &view)};
  element *panel = scratch;
  if (source.in_place) {
    source = (ac_source){x, p->x_plane, p->x_height, p->x_width, 1};
  } else if (view.copied) {
    PAD(p, &view, x, scratch);
    source.planes = scratch;
    panel = (element *)((char *)scratch + ac_copy_bytes(&view, p->columns, sizeof *panel));
  }
  if (outputs.positions == 1 && !source.in_place) {
    single_pixel(p, &view, source.planes, y, 0);
    return;
  }
  /* ac_scratch_bytes knows of room for twice AC_PANEL_DEPTH inputs of a tile, and for the sums of AC_PART_TILES + 1 tiles. */
  real *partial = (real *)(panel + 2 * AC_PANEL_DEPTH * WIDE);
  const int64_t inputs = p->kernel_height * p->kernel_width * p->columns;
  const int64_t whole = inputs <= AC_PANEL_DEPTH, most_part = whole ? inputs : AC_PANEL_DEPTH / AC_PART_TILES;
  const int64_t parts = (inputs + most_part - 1) / most_part;
  const int64_t most_depth = ((inputs + parts - 1) / parts + 3) / 4 * 4;
  const int64_t room = AC_PANEL_DEPTH / most_depth, most = room < MOST_TILES ? room : MOST_TILES;
  ac_gathered tiles[MOST_TILES + 1];
  for (int64_t pixel = 0; pixel < outputs.positions;) {
    const int64_t count = cut(p, &outputs, pixel, most, tiles);
    int64_t wide = 0;
    while (wide < count && tiles[wide].place.width == WIDE) wide++;
    pixel = tiles[count - 1].place.pixel + tiles[count - 1].place.width;
    for (int64_t t = 0; t < count && !source.in_place; t++) ac_pieces_of(p, &source, &tiles[t].place, 0, 0, &tiles[t].pieces);
    for (int64_t first = 0; first < inputs; first += most_depth) {
      const int64_t depth = inputs - first < most_depth ? inputs - first : most_depth;
      gather(p, &source, tiles, count, wide, first, depth, panel);
      const ac_part part = {p, &outputs, y, depth, first == 0, first + depth == inputs, 4 * inputs, bounds_of(p)};
      for (int64_t row = 0; row < p->rows; row += 4) {
        const element *weights = (const element *)p->weights + row * inputs + 4 * first;
        real *own = partial + row * (AC_PART_TILES + 1) * WIDE;
        tile_wide(&part, tiles, wide, row, weights, own);
        own += wide * 4 * WIDE;
        for (const ac_gathered *tile = tiles + wide; tile != tiles + count; tile++, own += 4 * WIDE) {
          if (tile->place.width == MIDDLE)
            tile_middle(&part, tile, 1, row, weights, own);
          else if (tile->place.width == NARROW)
            columns_tile(&part, tile, row, weights, own);
          else
            column_tile(&part, tile, row, weights, own);
        }
      }
    }
  }
}
