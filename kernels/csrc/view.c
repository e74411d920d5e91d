#include "view.h"

#include "panel.h"
#include "simd.h"

ac_view ac_view_of(const ac_problem *p) {
  const int64_t reach_rows = (p->kernel_height - 1) * p->dilation_height;
  const int64_t reach_columns = (p->kernel_width - 1) * p->dilation_width;
  ac_view view;
  view.copied = p->stride_height != 1 || p->stride_width != 1 || p->pad_top != 0 || p->pad_left != 0 ||
                p->x_height < p->y_height + reach_rows || p->x_width < p->y_width + reach_columns;
  view.phase_rows = p->kernel_height == 1 || p->dilation_height % p->stride_height == 0 ? 1 : p->stride_height;
  view.phase_columns = p->kernel_width == 1 || p->dilation_width % p->stride_width == 0 ? 1 : p->stride_width;
  view.height = p->y_height + reach_rows / p->stride_height;
  view.width = view.copied ? p->y_width + reach_columns / p->stride_width : p->x_width;
  view.positions = (p->y_height - 1) * view.width + p->y_width;
  view.plane = view.copied ? view.phase_rows * view.phase_columns * view.height * view.width : p->x_plane;
  return view;
}

#define LINE_PIXELS 16
#define FEWEST_ROWS 64 /* from which copying x is worth its time */

ac_view ac_block1x4_view_of(const ac_problem *p) {
  ac_view view = ac_view_of(p);
  if (AC_VNNI && !view.copied && p->kernel_height * p->kernel_width == 1 && view.positions >= LINE_PIXELS && p->rows >= FEWEST_ROWS)
    view.plane = (view.plane + LINE_PIXELS - 1) / LINE_PIXELS * LINE_PIXELS;
  return view;
}

void ac_spread(const ac_problem *p, const ac_view *view, const void *x, int64_t planes, void *scratch) {
  for (int64_t n = 0; n < planes; n++)
    memcpy((uint32_t *)scratch + n * view->plane, (const uint32_t *)x + n * p->x_plane, 4 * (size_t)view->positions);
}

int64_t ac_window_offset(const ac_problem *p, const ac_view *view, int64_t ky, int64_t kx) {
  const int64_t row = ky * p->dilation_height, column = kx * p->dilation_width;
  const int64_t phase = row % p->stride_height * view->phase_columns + column % p->stride_width;
  return (phase * view->height + row / p->stride_height) * view->width + column / p->stride_width;
}

/* Of one row of a phase: elements of padding before those of x, the first of those, and their number. */
typedef struct {
  int64_t before, first, inside;
} ac_span;

static ac_span span_of(const ac_problem *p, const ac_view *view, int64_t column) {
  const int64_t step = p->stride_width;
  int64_t before = column < 0 ? (step - 1 - column) / step : 0;
  if (before > view->width) before = view->width;
  const int64_t first = column + before * step;
  int64_t inside = first < p->x_width ? (p->x_width - 1 - first) / step + 1 : 0;
  if (inside > view->width - before) inside = view->width - before;
  return (ac_span){before, first, inside};
}

/* Runs are copied in vectors, of which the last begins early: nothing is read or written outside of them. */
#define AC_DEFINE_COPIES(bits, bytes)                                                                                         \
  uint##bits##_t *ac_fill##bytes(uint##bits##_t *to, int64_t count, uint##bits##_t fill) {                                    \
    AC_SHORT for (int64_t i = 0; i < count; i++) to[i] = fill;                                                                \
    return to + count;                                                                                                        \
  }                                                                                                                           \
                                                                                                                              \
  static inline __attribute__((always_inline)) void run_of##bytes(uint##bits##_t *to, const uint##bits##_t *from, int64_t step,  \
                                                                  int64_t count) {                                            \
    if (count >= 8) {                                                                                                         \
      AC_SHORT for (int64_t i = 0; i < count - 8; i += 8) ac_eight##bytes(to + i, from + step * i, step);                     \
      ac_eight##bytes(to + count - 8, from + step * (count - 8), step);                                                       \
    } else if (count >= 4) {                                                                                                  \
      ac_four##bytes(to, from, step);                                                                                         \
      ac_four##bytes(to + count - 4, from + step * (count - 4), step);                                                        \
    } else {                                                                                                                  \
      AC_SHORT for (int64_t i = 0; i < count; i++) to[i] = from[step * i];                                                    \
    }                                                                                                                         \
  }                                                                                                                           \
                                                                                                                              \
  uint##bits##_t *ac_pick##bytes(uint##bits##_t *to, const uint##bits##_t *from, int64_t step, int64_t count) {               \
    if (step == 1)                                                                                                            \
      run_of##bytes(to, from, 1, count);                                                                                      \
    else if (step == 2)                                                                                                       \
      run_of##bytes(to, from, 2, count);                                                                                      \
    else                                                                                                                      \
      AC_SHORT for (int64_t i = 0; i < count; i++) to[i] = from[step * i];                                                    \
    return to + count;                                                                                                        \
  }                                                                                                                           \
                                                                                                                              \
  uint##bits##_t *ac_pad##bytes(const ac_problem *p, const ac_view *view, const void *x, int64_t planes,                      \
                                uint##bits##_t fill, void *scratch) {                                                         \
    const uint##bits##_t *from = x;                                                                                           \
    uint##bits##_t *to = scratch;                                                                                             \
    for (int64_t plane = 0; plane < planes; plane++, from += p->x_plane)                                                      \
      for (int64_t a = 0; a < view->phase_rows; a++)                                                                          \
        for (int64_t b = 0; b < view->phase_columns; b++) {                                                                   \
          const ac_span span = span_of(p, view, b - p->pad_left);                                                             \
          for (int64_t r = 0; r < view->height; r++) {                                                                        \
            const int64_t row = r * p->stride_height + a - p->pad_top;                                                        \
            if (row < 0 || row >= p->x_height) {                                                                              \
              to = ac_fill##bytes(to, view->width, fill);                                                                    \
              continue;                                                                                                       \
            }                                                                                                                 \
            to = ac_fill##bytes(to, span.before, fill);                                                                      \
            to = ac_pick##bytes(to, from + row * p->x_width + span.first, p->stride_width, span.inside);                     \
            to = ac_fill##bytes(to, view->width - span.before - span.inside, fill);                                          \
          }                                                                                                                   \
        }                                                                                                                     \
    return to;                                                                                                                \
  }                                                                                                                           \
                                                                                                                              \
  void ac_slack##bytes(uint##bits##_t *end, uint##bits##_t fill) { ac_fill##bytes(end, AC_SLACK, fill); }                    \
                                                                                                                              \
  void ac_scatter##bytes(const ac_problem *p, const ac_view *view, const ac_place *place, const void *tile, void *y) {        \
    int64_t row = place->row, column = place->column;                                                                         \
    for (int64_t i = 0; i < place->width && row < p->y_height; row++) {                                                       \
      const uint##bits##_t *from = (const uint##bits##_t *)tile + i;                                                          \
      uint##bits##_t *to = (uint##bits##_t *)y + row * p->y_width + column;                                                   \
      const int64_t left = place->width - i, run = p->y_width - column < left ? p->y_width - column : left;                   \
      run_of##bytes(to, from, 1, run);                                                                                        \
      i += view->width - column;                                                                                              \
      column = 0;                                                                                                             \
    }                                                                                                                         \
  }

AC_DEFINE_COPIES(32, 4)
AC_DEFINE_COPIES(16, 2)
