#include "panel.h"

static ac_piece piece_of(int64_t from, int64_t to, int64_t at, int64_t step) {
  return (ac_piece){(int32_t)(from + step * at), (int32_t)(to + at)};
}

static void add_run(ac_pieces *pieces, int64_t from, int64_t to, int64_t length, int64_t step) {
  if (length >= 8) {
    for (int64_t i = 0; i < length; i += 8) pieces->eight[pieces->eights++] = piece_of(from, to, i + 8 <= length ? i : length - 8, step);
  } else if (length >= 4) {
    pieces->four[pieces->fours++] = piece_of(from, to, 0, step);
    if (length > 4) pieces->four[pieces->fours++] = piece_of(from, to, length - 4, step);
  } else {
    for (int64_t i = 0; i < length; i++) pieces->one[pieces->ones++] = piece_of(from, to, i, step);
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
  const int64_t origin = ac_first_pixel(source, place) + top * source->width + left, step = source->step;
  ac_pieces *in = &cut->inside, *out = &cut->outside;
  in->eights = in->fours = in->ones = out->eights = out->fours = out->ones = 0;
  int64_t row = place->row * source->step_rows + top, column = place->column;
  int64_t from = 0, to = 0, joined = 0; /* runs that go on where the one before ended are one */
  for (int64_t done = 0, length; done < place->width; done += length, row += source->step_rows, column = 0) {
    length = p->y_width - column < place->width - done ? p->y_width - column : place->width - done;
    /* Of these outputs the ones from `first` to `last` read columns of the source, which are copied. */
    const int64_t begin = column * step + left, first = begin < 0 ? (step - 1 - begin) / step : 0;
    const int64_t inside = begin < source->width ? (source->width - 1 - begin) / step + 1 : 0;
    const int64_t last = inside < length ? inside : length;
    if (row < 0 || row >= source->height || first >= last) continue;
    const int64_t own_from = row * source->width + begin + first * step - origin, own_to = done + first;
    if (own_from != from + step * joined || own_to != to + joined) {
      add_run(in, from, to, joined, step);
      add_run(out, 0, to + joined, own_to - (to + joined), 1);
      from = own_from, to = own_to, joined = 0;
    }
    joined += last - first;
  }
  add_run(in, from, to, joined, step);
  add_run(out, 0, to + joined, place->width - (to + joined), 1);
  cut->step = step;
  cut->whole = joined == place->width && step == 1;
}

void ac_input_offsets(const ac_problem *p, const ac_source *source, int64_t planes, int32_t *offsets) {
  for (int64_t window = 0; window < p->kernel_height * p->kernel_width; window++) {
    const int64_t shift =
        source->in_place ? window_top(p, window) * source->width + window_left(p, window) : p->offsets[window];
    for (int64_t plane = 0; plane < planes; plane++) *offsets++ = (int32_t)(shift + plane * source->plane);
  }
}
