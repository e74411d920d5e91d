#include "panel.h"

static void add_run(ac_pieces *pieces, int64_t from, int64_t to, int64_t length) {
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

/* Rows and columns by which a position of the window lies from an output's pixel, of a source that is x itself. */
static int64_t window_top(const ac_problem *p, int64_t window) {
  return window / p->kernel_width * p->dilation_height - p->pad_top;
}

static int64_t window_left(const ac_problem *p, int64_t window) {
  return window % p->kernel_width * p->dilation_width - p->pad_left;
}

void ac_cut_tile(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t window, ac_cut *cut) {
  const int64_t top = source->in_place ? window_top(p, window) : 0, left = source->in_place ? window_left(p, window) : 0;
  const int64_t origin = ac_first_pixel(source, place) + top * source->width + left;
  ac_pieces *in = &cut->inside, *out = &cut->outside;
  in->eights = in->fours = in->ones = out->eights = out->fours = out->ones = 0;
  int64_t row = place->row + top, column = place->column;
  int64_t from = 0, to = 0, joined = 0; /* runs that go on where the one before ended are one */
  for (int64_t done = 0, length; done < place->width; done += length, row++, column = 0) {
    length = p->y_width - column < place->width - done ? p->y_width - column : place->width - done;
    /* Columns of the source, of which those inside are copied. */
    const int64_t begin = column + left, end = begin + length;
    const int64_t first = begin > 0 ? begin : 0, last = end < source->width ? end : source->width;
    if (row < 0 || row >= source->height || first >= last) continue;
    const int64_t own_from = row * source->width + first - origin, own_to = done + first - begin;
    if (own_from != from + joined || own_to != to + joined) {
      add_run(in, from, to, joined);
      add_run(out, 0, to + joined, own_to - (to + joined));
      from = own_from, to = own_to, joined = 0;
    }
    joined += last - first;
  }
  add_run(in, from, to, joined);
  add_run(out, 0, to + joined, place->width - (to + joined));
  cut->whole = joined == place->width;
}

void ac_input_offsets(const ac_problem *p, const ac_source *source, int64_t planes, int32_t *offsets) {
  for (int64_t window = 0; window < p->kernel_height * p->kernel_width; window++) {
    const int64_t shift =
        source->in_place ? window_top(p, window) * source->width + window_left(p, window) : p->offsets[window];
    for (int64_t plane = 0; plane < planes; plane++) *offsets++ = (int32_t)(shift + plane * source->plane);
  }
}
