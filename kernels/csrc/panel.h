/* Panels: the inputs of a tile of consecutive output pixels, gathered by the dense kernels so that no position between two rows of
 * outputs is computed. For every input (or quad of inputs) a panel has one row, of as many pixels as the tile.
 *
 * A tile is cut where a row of outputs, or of inputs, ends. What it reads from a plane are then a few pieces of 8, 4 or 1 pixels,
 * the same ones for all channels; the last piece of a run begins early. With stride 1 they are read from x itself: what lies outside of
 * it is filled in. With other strides, or so few channels that finding the pieces takes longer than copying, they are read from the
 * copy of view.h.
 */
#ifndef AC_PANEL_H
#define AC_PANEL_H

#include <string.h>

#include "view.h"

typedef struct {
  int32_t from, to; /* in pixels: from the beginning of a plane, and of the row of a panel */
} ac_piece;

typedef struct {
  int64_t eights, fours, ones, inside; /* numbers of pieces, and of pixels that they cover */
  int64_t run;                         /* the tile is one piece: it begins here; else -1 */
  ac_piece eight[AC_WIDEST / 4], four[AC_WIDEST / 2], one[AC_WIDEST];
} ac_pieces;

/* The planes from which a panel is gathered. */
typedef struct {
  const void *planes;
  int64_t plane, height, width; /* in pixels; planes are `plane` apart */
  int64_t in_place;             /* planes are those of x, and the window may lie partly outside of them */
} ac_source;

/* Pieces of the tile at `place`, shifted by `top` rows and `left` columns. */
void ac_pieces_of(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t top, int64_t left,
                  ac_pieces *pieces);

/* Pieces of the tile at `place` at a position of the window, of a source that is x itself. */
static inline void ac_window_pieces(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t window,
                                    ac_pieces *pieces) {
  const int64_t ky = window / p->kernel_width, kx = window - ky * p->kernel_width;
  ac_pieces_of(p, source, place, ky * p->dilation_height - p->pad_top, kx * p->dilation_width - p->pad_left, pieces);
}

/* One row of a panel, `width` pixels, from the plane at `from`. */
#define AC_DEFINE_GATHER_ROW(bits, bytes)                                                                                     \
  static inline void ac_gather_row##bytes(uint##bits##_t *to, const uint##bits##_t *from, int64_t width, uint##bits##_t fill, \
                                          const ac_pieces *pieces) {                                                          \
    if (pieces->inside < width)                                                                                               \
      for (int64_t i = 0; i < width; i++) to[i] = fill;                                                                       \
    for (const ac_piece *piece = pieces->eight, *end = piece + pieces->eights; piece < end; piece++)                          \
      memcpy(to + piece->to, from + piece->from, 8 * sizeof *to);                                                             \
    for (const ac_piece *piece = pieces->four, *end = piece + pieces->fours; piece < end; piece++)                            \
      memcpy(to + piece->to, from + piece->from, 4 * sizeof *to);                                                             \
    for (const ac_piece *piece = pieces->one, *end = piece + pieces->ones; piece < end; piece++)                              \
      to[piece->to] = from[piece->from];                                                                                      \
  }

AC_DEFINE_GATHER_ROW(32, 4)
AC_DEFINE_GATHER_ROW(16, 2)

/* Tiles over all output pixels, without a break. */
static inline ac_view ac_outputs_of(const ac_problem *p) {
  const int64_t pixels = p->y_height * p->y_width;
  return (ac_view){0, p->y_width, p->y_height, 1, 1, pixels, pixels};
}

#endif
