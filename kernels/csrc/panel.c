#include "panel.h"

static void add_run(ac_pieces *pieces, int64_t from, int64_t to, int64_t length) {
  pieces->inside += length;
  if (length >= 8) {
    for (int64_t i = 0; i < length; i += 8) {
      const int64_t at = i + 8 <= length ? i : length - 8;
      pieces->eight[pieces->eights++] = (ac_piece){(int32_t)(from + at), (int32_t)(to + at)};
    }
  } else if (length >= 4) {
    pieces->four[pieces->fours++] = (ac_piece){(int32_t)from, (int32_t)to};
    if (length > 4) pieces->four[pieces->fours++] = (ac_piece){(int32_t)(from + length - 4), (int32_t)(to + length - 4)};
  } else {
    for (int64_t i = 0; i < length; i++) pieces->one[pieces->ones++] = (ac_piece){(int32_t)(from + i), (int32_t)(to + i)};
  }
}

void ac_pieces_of(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t top, int64_t left,
                  ac_pieces *pieces) {
  pieces->eights = pieces->fours = pieces->ones = pieces->inside = 0;
  int64_t row = place->row + top, column = place->column;
  int64_t from = 0, to = 0, joined = 0; /* runs that go on where the one before ended are one */
  for (int64_t done = 0, length; done < place->width; done += length, row++, column = 0) {
    length = p->y_width - column < place->width - done ? p->y_width - column : place->width - done;
    /* Columns of the source, of which those inside are copied. */
    const int64_t begin = column + left, end = begin + length;
    const int64_t first = begin > 0 ? begin : 0, last = end < source->width ? end : source->width;
    if (row < 0 || row >= source->height || first >= last) continue;
    const int64_t own_from = row * source->width + first, own_to = done + first - begin;
    if (own_from != from + joined || own_to != to + joined) {
      add_run(pieces, from, to, joined);
      from = own_from, to = own_to, joined = 0;
    }
    joined += last - first;
  }
  add_run(pieces, from, to, joined);
  pieces->run = joined == place->width ? from : -1;
}
