/* Depthwise windows of 3x3 and 5x5 with stride 1 or 2: rows of outputs, up to 4 at a time.
 *
 * A band of a channel's rows is copied, padded on all sides, with even and odd columns apart for stride 2: then every tap of a vector
 * of outputs is a vector of the copy. A tile is one vector of outputs in each of its rows. It loads an input once for all of them,
 * and a weight once. The next band is copied before a band is read, because a load that spans two stores waits for both to reach L1.
 */
#include "bands.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES REAL_LANES
#define OUTPUTS REALS(LANES)
#define MASK MASKS(LANES)

/* Lanes [0, count) kept, the others zero. */
INLINE MASK mask_of(int64_t count) {
  static const mask table[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  return AC_LOAD(MASK, table + (count < LANES ? 16 - count : 16 - LANES));
}

INLINE void store_masked(real *to, OUTPUTS v, MASK kept) { AC_STORE(OUTPUTS, to, (OUTPUTS)((MASK)v & kept)); }

/* `rows` rows of `count` elements, followed by zeros up to a whole vector. All lanes may be read. */
static AC_NOINLINE void copy_rows(real *to, int64_t step, const element *from, int64_t width, int64_t rows, int64_t count) {
  const int64_t last = (count - 1) / LANES * LANES;
  const MASK kept = mask_of(count - last);
  for (; rows > 0; rows--, to += step, from += width) {
    AC_SHORT for (int64_t i = 0; i < last; i += LANES) AC_STORE(OUTPUTS, to + i, LOAD_REALS(LANES, from + i));
    store_masked(to + last, LOAD_REALS(LANES, from + last), kept);
  }
}

/* The same, every second element to `to`, the others to `other`. */
static AC_NOINLINE void copy_pairs(real *to, real *other, int64_t step, const element *from, int64_t width, int64_t rows,
                                   int64_t count) {
  const int64_t last = (count - 1) / (2 * LANES) * LANES;
  const MASK even = mask_of((count + 1) / 2 - last), odd = mask_of(count / 2 - last);
  for (; rows > 0; rows--, to += step, other += step, from += width)
    AC_SHORT for (int64_t i = 0; i <= last; i += LANES) {
      const OUTPUTS low = LOAD_REALS(LANES, from + 2 * i), high = LOAD_REALS(LANES, from + 2 * i + LANES);
      if (i < last) {
        AC_STORE(OUTPUTS, to + i, AC_EVEN(LANES, low, high));
        AC_STORE(OUTPUTS, other + i, AC_ODD(LANES, low, high));
      } else {
        store_masked(to + i, AC_EVEN(LANES, low, high), even);
        store_masked(other + i, AC_ODD(LANES, low, high), odd);
      }
    }
}

/* Rows of x under a band: `rows` from row `first` of x on are the rows from `above` on of its copy. */
typedef struct {
  int64_t first, above, rows;
} ac_rows;

static ac_rows rows_of(const ac_problem *p, const ac_bands *bands, int64_t output) {
  const int64_t top = output * p->stride_height - p->pad_top, bottom = top + ac_band_inputs(p, bands->outputs);
  const int64_t first = top < 0 ? 0 : top, end = bottom < p->x_height ? bottom : p->x_height;
  return (ac_rows){first, first - top, end > first && bands->columns > 0 ? end - first : 0};
}

/* `to` holds zeros wherever no band has rows or columns of x. `readable`: elements of the tensor from x on. */
INLINE void copy_band(const ac_problem *p, const ac_bands *bands, ac_rows band, const element *x, int64_t readable, real *to) {
  const int64_t width = p->x_width, columns = bands->columns, begin = band.first * width;
  const int64_t spare = readable - begin - columns - 2 * LANES; /* vectors of the last rows may end behind the tensor */
  const int64_t rows = (band.rows - 1) * width <= spare ? band.rows : spare < 0 ? 0 : spare / width + 1;
  const element *from = x + begin;
  real *even = to + band.above * bands->row + bands->even, *odd = to + band.above * bands->row + bands->odd;
  if (p->stride_width == 1)
    copy_rows(even, bands->row, from, width, rows, columns);
  else
    copy_pairs(even, odd, bands->row, from, width, rows, columns);
  for (int64_t row = rows; row < band.rows; row++)
    for (int64_t i = 0; i < columns; i++)
      (p->stride_width == 1 || i % 2 == 0 ? even : odd)[row * bands->row + i / p->stride_width] = (real)from[row * width + i];
}

/* The same where bands differ in which rows are of x. */
static AC_NOINLINE void copy_next(const ac_problem *p, const ac_bands *bands, int64_t output, const element *x, int64_t readable,
                                  real *to) {
  const ac_rows band = rows_of(p, bands, output);
  const int64_t inputs = ac_band_inputs(p, bands->outputs), above = band.above < inputs ? band.above : inputs;
  const int64_t below = inputs - above - band.rows;
  memset(to, 0, (size_t)(above * bands->row) * sizeof *to);
  memset(to + (inputs - below) * bands->row, 0, (size_t)(below * bands->row) * sizeof *to);
  copy_band(p, bands, band, x, readable, to);
}

/* What the tiles of all bands share. */
typedef struct {
  int64_t phase, row; /* as in ac_bands */
  int64_t width;      /* of outputs */
  ac_bounds bounds;
} ac_shape;

/* One vector of outputs in each of `count` rows. */
INLINE void tile(int size, int stride, int count, ac_shape shape, const real *from, const real *weights, real bias, element *y,
                 int64_t step) {
  OUTPUTS sum[2][4]; /* two chains of sums a row, or cores would wait for them */
  if (size > 3) __asm__ volatile("" : "+r"(weights)); /* 25 weights are loaded again: there are no registers for them */
  AC_UNROLL for (int r = 0; r < count; r++) sum[0][r] = AC_SPLAT(OUTPUTS, bias), sum[1][r] = AC_SPLAT(OUTPUTS, (real)0);
  AC_UNROLL for (int kx = 0; kx < size; kx++) {
    const real *column = from + (stride == 1 ? kx : kx % 2 * shape.phase + kx / 2);
    AC_UNROLL for (int row = 0; row < (count - 1) * stride + size; row++) {
      const OUTPUTS x = AC_LOAD(OUTPUTS, column + row * shape.row);
      AC_UNROLL for (int r = 0; r < count; r++) {
        const int ky = row - r * stride;
        if (ky >= 0 && ky < size) sum[size > 3 && ky % 2][r] += x * weights[ky * size + kx];
      }
    }
  }
  AC_UNROLL for (int r = 0; r < count; r++)
    STORE_REALS(LANES, y + r * step, CLIP(LANES)(shape.bounds, size > 3 ? sum[0][r] + sum[1][r] : sum[0][r]));
}

/* Rows of outputs from a buffer in which they lie a vector apart; only the first `whole` as whole vectors. */
INLINE void store_rows(element *y, int64_t width, int64_t whole, int count, const element *from) {
  for (int64_t row = 0; row < count; row++, y += width, from += LANES)
    if (row < whole)
      AC_STORE(ELEMENTS(LANES), y, AC_LOAD(ELEMENTS(LANES), from));
    else if (width >= 4)
      for (int64_t i = 0; i < width; i += 4) {
        const int64_t at = i < width - 4 ? i : width - 4;
        AC_STORE(ELEMENTS(4), y + at, AC_LOAD(ELEMENTS(4), from + at));
      }
    else
      for (int64_t i = 0; i < width; i++) y[i] = from[i];
}

/* `count` rows of outputs. Rows shorter than a vector are stored over the beginning of the next, which is stored after them; not so
 * at the end of the plane. */
INLINE void strip(int size, int stride, int count, ac_shape shape, const real *from, const real *weights, real bias, element *y,
                  int64_t row, int64_t whole_rows) {
  element end[4 * LANES];
  const int whole = row + count <= whole_rows;
  element *rows = y + row * shape.width, *to = whole ? rows : end;
  const int64_t last = shape.width < LANES ? 0 : shape.width - LANES, step = whole ? shape.width : LANES;
  AC_SHORT for (int64_t i = 0; i < shape.width; i += LANES) {
    const int64_t at = i < last ? i : last;
    tile(size, stride, count, shape, from + at, weights, bias, to + at, step);
  }
  if (!whole) store_rows(rows, shape.width, whole_rows - row, count, end);
}

#define DEFINE_BAND(size, stride)                                                                                               \
  static AC_NOINLINE void band_##size##_##stride(const ac_shape *restrict shared, const real *restrict from,                    \
                                                 const real *restrict weights, real bias, element *restrict y, int64_t row,     \
                                                 int64_t end, int64_t whole) {                                                  \
    const ac_shape shape = *shared;                                                                                             \
    for (; row + 4 <= end; row += 4, from += 4 * stride * shape.row) strip(size, stride, 4, shape, from, weights, bias, y, row, whole); \
    if (row + 3 == end) strip(size, stride, 3, shape, from, weights, bias, y, row, whole);                                             \
    if (row + 2 == end) strip(size, stride, 2, shape, from, weights, bias, y, row, whole);                                             \
    if (row + 1 == end) strip(size, stride, 1, shape, from, weights, bias, y, row, whole);                                             \
  }
DEFINE_BAND(3, 1)
DEFINE_BAND(3, 2)
DEFINE_BAND(5, 1)
DEFINE_BAND(5, 2)

/* A plane of outputs through an activation that bends. */
static void bend_plane(const ac_problem *p, ac_bounds bounds, element *y) {
  const int64_t pixels = p->y_height * p->y_width;
  int64_t i = 0;
  for (; i + LANES <= pixels; i += LANES) STORE_REALS(LANES, y + i, FINISH(LANES)(p, bounds, LOAD_REALS(LANES, y + i)));
  for (; i < pixels; i++) store_single(p, (real)y[i], y + i);
}

static void run_bands(const ac_problem *p, const element *x, element *y, real *scratch) {
  const ac_bands bands = ac_bands_of(p);
  const ac_rows all = rows_of(p, &bands, 0);
  const int64_t windows = p->kernel_height * p->kernel_width, several = bands.outputs < p->y_height;
  const int64_t pixels = p->y_height * p->y_width, spare = pixels - LANES;
  const int64_t last = p->y_width >= LANES ? p->y_height : spare < 0 ? 0 : spare / p->y_width + 1;
  const ac_shape shape = {bands.phase, bands.row, p->y_width, bounds_of(p)};
  memset(scratch, 0, 2 * (size_t)bands.length * sizeof *scratch);
  copy_band(p, &bands, all, x, p->rows * p->x_plane, scratch);
  int64_t turn = 0;
  for (int64_t channel = 0; channel < p->rows; channel++) {
    const element *from = x + channel * p->x_plane, *packed = (const element *)p->weights + channel * windows;
    const int64_t readable = (p->rows - channel) * p->x_plane;
    /* What follows without a gap is stored after this plane. */
    const int64_t whole = p->y_plane == pixels && (p->rows - 1 - channel) * pixels >= LANES ? p->y_height : last;
    const real bias = (real)p->bias[channel];
    element *to = y + channel * p->y_plane;
#if AC_HALF && !defined(AC_NATIVE_HALF)
    real weights[25];
    for (int64_t i = 0; i < windows; i++) weights[i] = (real)packed[i];
#else
    const real *weights = packed;
#endif
    for (int64_t row = 0; row < p->y_height; row += bands.outputs, turn = 1 - turn) {
      const real *copy = scratch + turn * bands.length;
      real *other = scratch + (1 - turn) * bands.length;
      const int64_t next = row + bands.outputs, end = next < p->y_height ? next : p->y_height;
      if (end < p->y_height)
        copy_next(p, &bands, next, from, readable, other);
      else if (channel + 1 < p->rows && several)
        copy_next(p, &bands, 0, from + p->x_plane, readable - p->x_plane, other);
      else if (channel + 1 < p->rows)
        copy_band(p, &bands, all, from + p->x_plane, readable - p->x_plane, other);
      if (p->kernel_width == 3)
        (p->stride_width == 1 ? band_3_1 : band_3_2)(&shape, copy, weights, bias, to, row, end, whole);
      else
        (p->stride_width == 1 ? band_5_1 : band_5_2)(&shape, copy, weights, bias, to, row, end, whole);
    }
    if (bends(p)) bend_plane(p, shape.bounds, to);
  }
}

#undef LANES
