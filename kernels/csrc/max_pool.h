/* Included by float_pool.h and s8_pool.c: max pooling, one plane of pixels after the other.
 *
 * The largest of a window is the largest in its columns and then in its rows. For every row of outputs, the rows of x that its windows
 * reach are made one line, which is padded with `fill`, and with a stride split into phases as in view.h; then come the windows' columns.
 *
 * Uses pixel, WIDE, NARROW, VECTOR(width), LOAD(width, from), LARGER(width, a, b), KEEP(width, p, to, v) to store a vector as it is and
 * FINAL(width, p, to, v) to store outputs; ONLY(from), KEEP_FIRST(p, to, v) and FINAL_FIRST(p, to, v) for one pixel; ac_pick and ac_fill.
 */

/* to[i] = the largest of from[i + OFFSET] over k < count, for i < length. */
#define AC_DEFINE_LARGEST(name, OFFSET, STORE, SINGLE)                                                                          \
  static void name(const ac_problem *p, pixel *to, const pixel *from, int64_t count, int64_t length) {                         \
    int64_t i = 0;                                                                                                             \
    for (; i + WIDE <= length; i += WIDE) {                                                                                    \
      VECTOR(WIDE) largest = LOAD(WIDE, from + i + (OFFSET(0)));                                                               \
      for (int64_t k = 1; k < count; k++) largest = LARGER(WIDE, largest, LOAD(WIDE, from + i + (OFFSET(k))));                 \
      STORE(WIDE, p, to + i, largest);                                                                                         \
    }                                                                                                                          \
    for (; i + NARROW <= length; i += NARROW) {                                                                                \
      VECTOR(NARROW) largest = LOAD(NARROW, from + i + (OFFSET(0)));                                                           \
      for (int64_t k = 1; k < count; k++) largest = LARGER(NARROW, largest, LOAD(NARROW, from + i + (OFFSET(k))));             \
      STORE(NARROW, p, to + i, largest);                                                                                       \
    }                                                                                                                          \
    for (; i < length; i++) {                                                                                                  \
      VECTOR(NARROW) largest = ONLY(from + i + (OFFSET(0)));                                                                   \
      for (int64_t k = 1; k < count; k++) largest = LARGER(NARROW, largest, ONLY(from + i + (OFFSET(k))));                     \
      SINGLE(p, to + i, largest);                                                                                              \
    }                                                                                                                          \
  }
#define ROW_OFFSET(k) (k) * p->dilation_height * p->x_width
#define COLUMN_OFFSET(k) p->offsets[k]
AC_DEFINE_LARGEST(largest_of_rows, ROW_OFFSET, KEEP, KEEP_FIRST)
AC_DEFINE_LARGEST(largest_of_columns, COLUMN_OFFSET, FINAL, FINAL_FIRST)

static void max_pool(const ac_problem *p, int64_t planes, const pixel *x, pixel *y, pixel *scratch, pixel fill) {
  const ac_view view = ac_view_of(p);
  const int64_t step = p->stride_width, length = (view.width - 1) * step + view.phase_columns;
  const int64_t before = p->pad_left < length ? p->pad_left : length;
  const int64_t inside = p->x_width < length - before ? p->x_width : length - before;
  pixel *line = scratch, *phases = step == 1 ? line : line + length;
  ac_fill(line, length, fill);
  for (int64_t plane = 0; plane < planes; plane++, x += p->x_plane, y += p->y_plane)
    for (int64_t row = 0; row < p->y_height; row++) {
      const int64_t top = row * p->stride_height - p->pad_top, apart = p->dilation_height;
      const int64_t first = top < 0 ? (apart - 1 - top) / apart : 0; /* of the window's rows, those in x */
      const int64_t behind = top < p->x_height ? (p->x_height - 1 - top) / apart + 1 : 0;
      const int64_t last = behind < p->kernel_height ? behind : p->kernel_height;
      if (first < last)
        largest_of_rows(p, line + before, x + (top + first * apart) * p->x_width, last - first, inside);
      else
        ac_fill(line + before, inside, fill);
      for (int64_t b = 0; b < view.phase_columns && step != 1; b++)
        ac_pick(phases + b * view.height * view.width, line + b, step, view.width);
      largest_of_columns(p, y + row * p->y_width, phases, p->kernel_width, p->y_width);
    }
}
