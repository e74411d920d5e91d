/* Depthwise windows of 3x3 and 5x5 with stride 1 or 2: rows of outputs, up to 4 at a time.
 *
 * A band of a channel's rows is copied, padded on all sides, with even and odd columns apart for stride 2: then every tap of a vector
 * of outputs is a vector of the copy. A tile is one vector of outputs in each of its rows. It loads an input once for all of them,
 * and a weight once. The next band is copied before a band is read, because a load that spans two stores waits for both to reach L1.
 */
#include "bands.h"

#define INLINE static inline __attribute__((always_inline))
#define OUTPUTS REALS(REAL_LANES)

/* Where a vector begins: the last one early. */
INLINE int64_t begin_of(int64_t at, int64_t last) { return at < last ? at : last; }

/* `rows` rows of `count` elements: a column of vectors after the other. copy_pairs_<lanes> puts every second element into `to`,
 * the others into `other`. */
#define DEFINE_COPIES(lanes)                                                                                                    \
  INLINE void copy_rows_##lanes(real *to, int64_t step, const element *from, int64_t width, int64_t rows, int64_t count) {      \
    for (int64_t i = 0; i < count; i += lanes) {                                                                                \
      const int64_t at = begin_of(i, count - lanes);                                                                            \
      for (int64_t row = 0; row < rows; row++)                                                                                  \
        AC_STORE(REALS(lanes), to + at + row * step, LOAD_REALS(lanes, from + at + row * width));                               \
    }                                                                                                                           \
  }                                                                                                                             \
  INLINE void copy_pairs_##lanes(real *to, real *other, int64_t step, const element *from, int64_t width, int64_t rows,         \
                                 int64_t count) {                                                                               \
    for (int64_t i = 0; i < count; i += lanes) {                                                                                \
      const int64_t at = begin_of(i, count - lanes);                                                                            \
      for (int64_t row = 0; row < rows; row++) {                                                                                \
        const element *pairs = from + 2 * at + row * width;                                                                     \
        const REALS(lanes) low = LOAD_REALS(lanes, pairs), high = LOAD_REALS(lanes, pairs + lanes);                             \
        AC_STORE(REALS(lanes), to + at + row * step, AC_EVEN(lanes, low, high));                                                \
        AC_STORE(REALS(lanes), other + at + row * step, AC_ODD(lanes, low, high));                                              \
      }                                                                                                                         \
    }                                                                                                                           \
  }

DEFINE_COPIES(4)
#if REAL_LANES == 8
DEFINE_COPIES(8)
#elif REAL_LANES == 16
DEFINE_COPIES(16)
#endif
#define COPY_ROWS(lanes) AC_JOIN(copy_rows_, lanes)
#define COPY_PAIRS(lanes) AC_JOIN(copy_pairs_, lanes)

static AC_NOINLINE void copy_rows(real *restrict to, int64_t step, const element *restrict from, int64_t width, int64_t rows,
                                  int64_t count) {
  if (count >= REAL_LANES)
    COPY_ROWS(REAL_LANES)(to, step, from, width, rows, count);
  else if (count >= 4)
    COPY_ROWS(4)(to, step, from, width, rows, count);
  else
    for (int64_t row = 0; row < rows; row++)
      for (int64_t i = 0; i < count; i++) to[row * step + i] = (real)from[row * width + i];
}

static AC_NOINLINE void copy_pairs(real *to, real *other, int64_t step, const element *from, int64_t width, int64_t rows,
                                   int64_t count) {
  const int64_t pairs = count / 2;
  if (pairs >= REAL_LANES)
    COPY_PAIRS(REAL_LANES)(to, other, step, from, width, rows, pairs);
  else if (pairs >= 4)
    COPY_PAIRS(4)(to, other, step, from, width, rows, pairs);
  else
    for (int64_t row = 0; row < rows; row++)
      for (int64_t i = 0; i < pairs; i++) {
        to[row * step + i] = (real)from[row * width + 2 * i];
        other[row * step + i] = (real)from[row * width + 2 * i + 1];
      }
  if (count % 2)
    for (int64_t row = 0; row < rows; row++) to[row * step + pairs] = (real)from[row * width + count - 1];
}

/* The copy of the band that begins with the row `output` of outputs. Beside x it holds zeros already. */
static void copy_band(const ac_problem *p, const ac_bands *bands, const element *x, int64_t output, real *to) {
  const int64_t stride = p->stride_width, left = p->pad_left, step = bands->row;
  const int64_t inputs = ac_band_inputs(p, bands->outputs), first = output * stride - p->pad_top;
  const int64_t reach = (p->y_width - 1) * stride + p->kernel_width - left;
  const int64_t columns = reach < p->x_width ? reach : p->x_width;
  int64_t above = first < 0 ? -first : 0, end = p->x_height - first;
  if (above > inputs || columns <= 0) above = inputs;
  if (end > inputs) end = inputs;
  if (end < above) end = above;
  if (bands->outputs < p->y_height) { /* else these rows have never held anything else */
    memset(to, 0, (size_t)(above * step) * sizeof *to);
    memset(to + end * step, 0, (size_t)((inputs - end) * step) * sizeof *to);
  }
  if (end == above) return;
  const element *from = x + (first + above) * p->x_width;
  to += above * step;
  if (stride == 1)
    copy_rows(to + left, step, from, p->x_width, end - above, columns);
  else
    copy_pairs(to + left % 2 * bands->phase + left / 2, to + (left + 1) % 2 * bands->phase + (left + 1) / 2, step, from, p->x_width,
               end - above, columns);
}

/* What a tile needs to know of the band. */
typedef struct {
  int64_t phase, row; /* as in ac_bands */
  int64_t width, height;
  real bias;
  ac_bounds bounds;
} ac_band;

/* One vector of outputs in each of `count` rows. */
INLINE void tile(int size, int stride, int count, ac_band band, const real *from, const real *weights, element *y, int64_t step) {
  OUTPUTS sum[4];
  AC_UNROLL for (int r = 0; r < count; r++) sum[r] = AC_SPLAT(OUTPUTS, band.bias);
  AC_UNROLL for (int kx = 0; kx < size; kx++) {
    const real *column = from + (stride == 1 ? kx : kx % 2 * band.phase + kx / 2);
    AC_UNROLL for (int row = 0; row < (count - 1) * stride + size; row++) {
      const OUTPUTS x = AC_LOAD(OUTPUTS, column + row * band.row);
      AC_UNROLL for (int r = 0; r < count; r++) {
        const int ky = row - r * stride;
        if (ky >= 0 && ky < size) sum[r] += x * weights[ky * size + kx];
      }
    }
  }
  AC_UNROLL for (int r = 0; r < count; r++) STORE_REALS(REAL_LANES, y + r * step, CLIP(REAL_LANES)(band.bounds, sum[r]));
}

/* `count` rows of outputs. Rows shorter than a vector are stored over the beginning of the next, which is stored after them; not so
 * at the end of the plane. */
INLINE void strip(int size, int stride, int count, ac_band band, const real *from, const real *weights, element *y, int64_t row) {
  element *to = y + row * band.width;
  if (band.width >= REAL_LANES) {
    for (int64_t i = 0; i < band.width; i += REAL_LANES) {
      const int64_t at = begin_of(i, band.width - REAL_LANES);
      tile(size, stride, count, band, from + at, weights, to + at, band.width);
    }
    return;
  }
  element end[4 * REAL_LANES];
  const int whole = (row + count - 1) * band.width + REAL_LANES <= band.height * band.width;
  tile(size, stride, count, band, from, weights, whole ? to : end, whole ? band.width : REAL_LANES);
  if (!whole)
    for (int r = 0; r < count; r++) memcpy(to + r * band.width, end + r * REAL_LANES, (size_t)band.width * sizeof *y);
}

#define DEFINE_BAND(size, stride)                                                                                              \
  static AC_NOINLINE void band_##size##_##stride(ac_band band, const real *restrict from, const real *restrict weights,        \
                                                 element *restrict y, int64_t row, int64_t end) {                              \
    for (; row + 4 <= end; row += 4, from += 4 * stride * band.row) strip(size, stride, 4, band, from, weights, y, row);       \
    if (row + 2 <= end) {                                                                                                      \
      strip(size, stride, 2, band, from, weights, y, row);                                                                     \
      row += 2, from += 2 * stride * band.row;                                                                                 \
    }                                                                                                                          \
    if (row < end) strip(size, stride, 1, band, from, weights, y, row);                                                        \
  }
DEFINE_BAND(3, 1)
DEFINE_BAND(3, 2)
DEFINE_BAND(5, 1)
DEFINE_BAND(5, 2)

/* A plane of outputs through an activation that bends. */
static void bend_plane(const ac_problem *p, ac_bounds bounds, element *y) {
  const int64_t pixels = p->y_height * p->y_width;
  int64_t i = 0;
  for (; i + REAL_LANES <= pixels; i += REAL_LANES)
    STORE_REALS(REAL_LANES, y + i, FINISH(REAL_LANES)(p, bounds, LOAD_REALS(REAL_LANES, y + i)));
  for (; i < pixels; i++) store_single(p, (real)y[i], y + i);
}

static void run_bands(const ac_problem *p, const element *x, element *y, real *scratch) {
  const ac_bands bands = ac_bands_of(p);
  const int64_t windows = p->kernel_height * p->kernel_width;
  ac_band band = {bands.phase, bands.row, p->y_width, p->y_height, 0, bounds_of(p)};
  memset(scratch, 0, 2 * (size_t)bands.length * sizeof *scratch);
  copy_band(p, &bands, x, 0, scratch);
  int64_t turn = 0;
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = x + channel * p->x_plane, *packed = (const element *)p->weights + channel * windows;
    element *to = y + channel * p->y_plane;
    real weights[25];
    for (int64_t i = 0; i < windows; i++) weights[i] = (real)packed[i];
    band.bias = (real)p->bias[channel];
    for (int64_t row = 0; row < p->y_height; row += bands.outputs, turn = 1 - turn) {
      const real *copy = scratch + turn * bands.length;
      real *other = scratch + (1 - turn) * bands.length;
      const int64_t next = row + bands.outputs, end = next < p->y_height ? next : p->y_height;
      if (next < p->y_height)
        copy_band(p, &bands, from, next, other);
      else if (channel + 1 < p->rows)
        copy_band(p, &bands, from + p->x_plane, 0, other);
      if (p->kernel_width == 3)
        (p->stride_width == 1 ? band_3_1 : band_3_2)(band, copy, weights, to, row, end);
      else
        (p->stride_width == 1 ? band_5_1 : band_5_2)(band, copy, weights, to, row, end);
    }
    if (bends(p)) bend_plane(p, band.bounds, to);
  }
}
