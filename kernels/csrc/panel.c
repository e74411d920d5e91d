#include "panel.h"

/* Pixels that are a step apart, of the source and of the panel. */
typedef struct {
  int64_t from, to, length;
} ac_run;

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

/* Cut into 8 pixels: whether they lie in at most two runs each. */
static int64_t add_parts(ac_cut *cut, int64_t from, int64_t to, int64_t length) {
  for (int64_t v = to / 8; v <= (to + length - 1) / 8; v++) {
    const int64_t begin = to > 8 * v ? to - 8 * v : 0, end = to + length < 8 * v + 8 ? to + length - 8 * v : 8;
    const int n = cut->part[0][v].end > 0;
    if (n == 1 && cut->part[1][v].end > 0) return 0;
    cut->part[n][v] = (ac_part_of_8){(int32_t)(from + 2 * (8 * v - to)), (int32_t)begin, (int32_t)end};
    if (n == 1) cut->eights = 2;
  }
  return 1;
}

static void cut_tile(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t window, ac_cut *cut) {
  const int64_t top = source->in_place ? window_top(p, window) : 0, left = source->in_place ? window_left(p, window) : 0;
  const int64_t origin = ac_first_pixel(source, place) + top * source->width + left, step = source->step;
  ac_run runs[AC_WIDEST];
  int64_t count = 0, row = place->row * source->step_rows + top, column = place->column, joined = 0, done = 0;
  if (!source->in_place && source->width == p->y_width) { /* one run, whatever its rows */
    runs[count++] = (ac_run){0, 0, place->width};
    done = joined = place->width;
  }
  for (int64_t length; done < place->width; done += length, row += source->step_rows, column = 0) {
    length = p->y_width - column < place->width - done ? p->y_width - column : place->width - done;
    /* Of these outputs the ones from `first` to `last` read columns of the source, which are copied. */
    const int64_t begin = column * step + left, first = begin < 0 ? (step - 1 - begin) / step : 0;
    const int64_t inside = begin < source->width ? (source->width - 1 - begin) / step + 1 : 0;
    const int64_t last = inside < length ? inside : length;
    if (row < 0 || row >= source->height || first >= last) continue;
    const int64_t from = row * source->width + begin + first * step - origin, to = done + first;
    ac_run *const before = runs + count - 1;
    if (count > 0 && from == before->from + step * before->length && to == before->to + before->length)
      before->length += last - first; /* runs that go on where the one before ended are one */
    else
      runs[count++] = (ac_run){from, to, last - first};
    joined += last - first;
  }
  cut->step = step;
  cut->whole = count == 1 && joined == place->width && step == 1;
  cut->eights = 0;
  if (source->pixels != 0 && step == 2 && place->width >= 8) {
    cut->eights = 1;
    memset(cut->part, 0, sizeof cut->part);
    int64_t few = 1;
    for (int64_t n = 0; n < count && few; n++) few = add_parts(cut, runs[n].from, runs[n].to, runs[n].length);
    if (few) return;
    cut->eights = 0;
  }
  ac_pieces *in = &cut->inside, *out = &cut->outside;
  in->eights = in->fours = in->ones = out->eights = out->fours = out->ones = 0;
  int64_t end = 0;
  for (int64_t n = 0; n < count; end = runs[n].to + runs[n].length, n++) {
    add_run(in, runs[n].from, runs[n].to, runs[n].length, step);
    add_run(out, 0, end, runs[n].to - end, 1);
  }
  add_run(out, 0, end, place->width - end, 1);
}

const ac_cut *ac_cut_at(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t window, ac_cuts *cuts) {
  if (!source->in_place) {
    cut_tile(p, source, place, 0, cuts->cut);
    return cuts->cut;
  }
  const int64_t column = window % p->kernel_width, first = place->row * source->step_rows + window_top(p, window);
  const int64_t last = first + (place->column + place->width - 1) / p->y_width * source->step_rows;
  const int64_t inside = first >= 0 && last < source->height, slot = column % AC_CUTS;
  if (inside && cuts->column[slot] == column) return cuts->cut + slot;
  cut_tile(p, source, place, window, cuts->cut + slot);
  cuts->column[slot] = inside ? column : -1;
  return cuts->cut + slot;
}

void ac_input_offsets(const ac_problem *p, const ac_source *source, int64_t planes, int32_t *offsets) {
  for (int64_t window = 0; window < p->kernel_height * p->kernel_width; window++) {
    const int64_t shift =
        source->in_place ? window_top(p, window) * source->width + window_left(p, window) : p->offsets[window];
    for (int64_t plane = 0; plane < planes; plane++) *offsets++ = (int32_t)(shift + plane * source->plane);
  }
}
