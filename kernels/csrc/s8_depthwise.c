/* Depthwise convolution in int8: one quad of channels after the other.
 *
 * Packing, rows padded with zeros to a multiple of 4, columns of the window too:
 *   weights[rows / 4][window row][window column / 4][4 rows][window column % 4]
 *
 * Windows of 3 x 3 and 5 x 5 with stride 1 or 2, where the machine has a dot product: s8_depthwise_plane.h, from a padded and flipped
 * (simd.h) copy of each plane.
 *
 * Any other window: as offsets into a view. Inputs are widened to int16, where two products can be added before they are widened again
 * to int32: |w| <= 127, so 2 * 128 * 127 = 32512 fits. Hence positions of the window are taken in pairs, and the weights of a quad are
 * spread first:
 *   spread[window, padded with zeros to an even number][4 rows] in int16
 */
#include "s8.h"

/* Vectors of weights in a row of the window. */
static int64_t parts_of(const ac_problem *p) { return (p->kernel_width + 3) / 4; }

static const int8_t *weights_of(const ac_problem *p, int64_t row) {
  return (const int8_t *)p->weights + 4 * row * p->kernel_height * parts_of(p);
}

#if defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
#define AC_HAS_PLANES 1
#else
#define AC_HAS_PLANES 0
#endif

#if AC_HAS_PLANES
#define LANES AC_S8_LANES
#define VECTOR AC_JOIN(i32x, LANES)
#define UNSIGNED AC_JOIN(u32x, LANES)
#define REALS AC_JOIN(f32x, LANES)
#define DOT4 AC_JOIN(dot4u_i32x, LANES)
#define FLIP AC_JOIN(flip_i32x, LANES)
#define SUM AC_JOIN(sum_f32x, LANES)
#define FMA AC_JOIN(fma_f32x, LANES)
#define BEND AC_JOIN(ac_bend_f32x, LANES)
#define LARGER AC_JOIN(larger_f32x, LANES)
#define SMALLER AC_JOIN(smaller_f32x, LANES)
#define LOW_BITS AC_JOIN(low_bits_f32x, LANES)
#define TALL 2 /* rows of outputs that share rows of inputs */

/* A tile is 4 registers of sums: lanes are 4 channels at one position, with AVX2 at two, whose inputs are 4 positions apart.
 * FIRST: the position that the (lower) output of register v begins to read at. CODES: the outputs of all four in order. */
#if LANES == 8
#define REPEAT(four) __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3)
#define FIRST(stride, v) ((stride) == 1 ? (v) : 2 * ((v) + ((v) & 2)))
#define CODES(stride, q, zero) ((stride) == 1 ? codes_i32x8(q, zero) : by_turns(codes_i32x8(q, zero)))

/* With stride 2 a register's outputs are 2 apart: 0 1 4 5 in the lower half, 2 3 6 7 in the upper one. */
static inline i32x8 by_turns(i32x8 codes) { return __builtin_shufflevector(codes, codes, 0, 1, 4, 5, 2, 3, 6, 7); }
#else
#define REPEAT(four) (four)
#define FIRST(stride, v) ((stride) * (v))
#define CODES(stride, q, zero) codes_i32x4(q, zero)
#endif

/* What becomes of the sums of a quad of rows, and the size of a plane of y. */
typedef struct {
  VECTOR start;
  REALS scale, bias, low, high;
  int32_t zero;
  int64_t width, height;
} ac_ending;

static inline VECTOR turned(const int8_t *x) { return AC_JOIN(turn_i32x, LANES)(AC_LOAD(VECTOR, x)); }

static inline VECTOR taps_of(const int8_t *weights) {
  const i32x4 taps = AC_LOAD(i32x4, weights);
  return REPEAT(taps);
}

#define WINDOW 3
#define STRIDE 1
#include "s8_depthwise_plane.h"

#define WINDOW 3
#define STRIDE 2
#include "s8_depthwise_plane.h"

#define WINDOW 5
#define STRIDE 1
#include "s8_depthwise_plane.h"

#define WINDOW 5
#define STRIDE 2
#include "s8_depthwise_plane.h"

typedef void ac_plane(const ac_problem *p, const ac_ending *end, const int8_t *weights, const int8_t *x, int64_t pitch, int8_t *y);

/* The function for a window; NULL where there is none. */
static ac_plane *plane_of(const ac_problem *p) {
  const int64_t window = p->kernel_width, stride = p->stride_width;
  if (p->kernel_height != window || p->stride_height != stride || p->dilation_height != 1 || p->dilation_width != 1) return NULL;
  if (window == 3) return stride == 1 ? plane_3s1 : stride == 2 ? plane_3s2 : NULL;
  if (window == 5) return stride == 1 ? plane_5s1 : stride == 2 ? plane_5s2 : NULL;
  return NULL;
}

/* A plane of x as far as outputs read it, with padding around it: a gap before every row is also the padding behind the row above. */
typedef struct {
  int64_t rows, pitch;                  /* pitch: positions from a row to the next */
  int64_t first;                        /* position of the first input of the first output */
  int64_t inside, inside_rows, columns; /* where x goes, and how much of it */
} ac_padded;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static ac_padded padded_of(const ac_problem *p) {
  const int64_t rows = (p->y_height - 1) * p->stride_height + p->kernel_height;
  const int64_t width = (p->y_width - 1) * p->stride_width + p->kernel_width;
  const int64_t above = least(p->pad_top, rows), before = least(p->pad_left, width);
  const int64_t columns = least(p->x_width, width - before), after = width - before - columns;
  const int64_t gap = before > after ? before : after, pitch = gap + columns;
  return (ac_padded){rows, pitch, gap - before, gap + above * pitch, least(p->x_height, rows - above), columns};
}

static int64_t padded_bytes(const ac_padded *c) { return (4 * ((c->rows + 1) * c->pitch + AC_SLACK) + 63) / 64 * 64; }

static void copy_inside(const ac_problem *p, const ac_padded *c, const int8_t *x, int8_t *copy) {
  int8_t *to = copy + 4 * c->inside;
  for (int64_t row = 0; row < c->inside_rows; row++, x += 4 * p->x_width, to += 4 * c->pitch) {
    if (c->columns >= LANES) {
      const int64_t last = 4 * (c->columns - LANES);
      for (int64_t i = 0; i < last; i += 4 * LANES) AC_STORE(VECTOR, to + i, FLIP(AC_LOAD(VECTOR, x + i)));
      AC_STORE(VECTOR, to + last, FLIP(AC_LOAD(VECTOR, x + last)));
    } else if (c->columns >= 4) {
      const int64_t last = 4 * (c->columns - 4);
      const i32x4 left = flip_i32x4(AC_LOAD(i32x4, x)), right = flip_i32x4(AC_LOAD(i32x4, x + last));
      AC_STORE(i32x4, to, left);
      AC_STORE(i32x4, to + last, right);
    } else {
      memcpy(to, x, 4 * (size_t)c->columns);
      if (AC_VNNI)
        for (int64_t i = 0; i < c->columns; i++) ((i32_memory *)to)[i] ^= AC_FLIP;
    }
  }
}

static void run_planes(const ac_problem *p, ac_plane *plane, const int8_t *x, int8_t *y, int8_t *copy) {
  const ac_padded c = padded_of(p);
  memset(copy, (int)p->x_zero_point ^ (AC_FLIP & 255), (size_t)padded_bytes(&c)); /* padding stays, the inside is written for every quad */
  for (int64_t row = 0; row < p->rows; row += 4) {
    copy_inside(p, &c, x + row * p->x_plane, copy);
    i32x4 start = AC_LOAD(i32x4, p->start + row) + AC_SUM_BEGIN;
#if AC_VNNI
    start -= add_quads(flipped(weights_of(p, row), 4 * p->kernel_height * parts_of(p)));
#endif
    const f32x4 scale = AC_LOAD(f32x4, p->scale + row), bias = AC_LOAD(f32x4, p->bias + row);
    const ac_ending end = {
        .start = REPEAT(start),
        .scale = REPEAT(scale),
        .bias = REPEAT(bias),
        .low = AC_SPLAT(REALS, low_code(p)),
        .high = AC_SPLAT(REALS, high_code(p)),
        .zero = (int32_t)p->y_zero_point,
        .width = p->y_width,
        .height = p->y_height,
    };
    plane(p, &end, weights_of(p, row), copy + 4 * c.first, c.pitch, y + row * p->y_plane);
  }
}

#undef LANES
#endif

/* Bytes of a vector of inputs; its sums take two vectors of int32. */
#if defined(__AVX2__)
#define LANES 16
#else
#define LANES 8
#endif
#define SHORTS AC_JOIN(i16x, LANES)
#define INTS AC_JOIN(i32x, LANES)
#define BYTES AC_JOIN(i8x, LANES)
#define VECTORS 4
#define NARROW (LANES / 4)
#define WIDE (VECTORS * NARROW)

static inline SHORTS splat_shorts(const int16_t *w) {
  const i16x4 four = AC_LOAD(i16x4, w);
#if LANES == 16
  return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
#else
  return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3);
#endif
}

static inline SHORTS load_shorts(const int8_t *x) { return __builtin_convertvector(AC_LOAD(BYTES, x), SHORTS); }

/* The outputs of 4 channels at LANES / 4 positions. */
static inline void store_codes(const ac_problem *p, int64_t row, const int32_t *sums, float low, float high, int8_t *y) {
  for (int n = 0; n < LANES; n += 4) {
    const f32x4 wide = __builtin_convertvector(AC_LOAD(i32x4, sums + n), f32x4);
    const f32x4 r = fma_f32x4(wide, AC_LOAD(f32x4, p->scale + row), AC_LOAD(f32x4, p->bias + row));
    const i32x4 q = quantise_f32x4(p, r, low, high) + (int32_t)p->y_zero_point;
    AC_STORE(i8x4, y + n, __builtin_convertvector(q, i8x4));
  }
}

#define TILE tile_wide
#define COUNT VECTORS
#include "s8_depthwise_tile.h"

#define TILE tile_narrow
#define COUNT 1
#include "s8_depthwise_tile.h"

static void single_pixel(const ac_problem *p, const ac_view *view, int64_t row, const int16_t *weights, const int8_t *x, void *y,
                         int64_t at) {
  const ac_place place = ac_place_of(p, view, at, 1);
  if (!place.whole) return;
  i32x4 sum = AC_LOAD(i32x4, p->start + row);
  for (int64_t w = 0; w < p->kernel_height * p->kernel_width; w++) {
    const i32x4 input = __builtin_convertvector(AC_LOAD(i8x4, x + 4 * (at + p->offsets[w])), i32x4);
    sum += input * __builtin_convertvector(AC_LOAD(i16x4, weights + 4 * w), i32x4);
  }
  store_pixel(p, row, sum, &place, y);
}

static int64_t spread_count(const ac_problem *p) { return (p->kernel_height * p->kernel_width + 1) / 2 * 8; }

static void spread(const ac_problem *p, int64_t row, int16_t *to) {
  const int8_t *weights = weights_of(p, row);
  memset(to, 0, (size_t)spread_count(p) * sizeof *to);
  for (int64_t ky = 0; ky < p->kernel_height; ky++)
    for (int64_t kx = 0; kx < p->kernel_width; kx++)
      for (int64_t i = 0; i < 4; i++) *to++ = weights[16 * (ky * parts_of(p) + kx / 4) + 4 * i + kx % 4];
}

static void run_view(const ac_problem *p, const int8_t *x, int8_t *y, void *scratch) {
  const ac_view view = ac_view_of(p);
  int16_t *weights = (int16_t *)((char *)scratch + ac_copy_bytes(&view, 1, 4));
  if (view.copied) ac_slack4((uint32_t *)scratch + view.plane, s8_fill(p));
  for (int64_t row = 0; row < p->rows; row += 4) {
    const int8_t *from = x + row * p->x_plane;
    spread(p, row, weights);
    if (view.copied) {
      ac_pad4(p, &view, from, 1, s8_fill(p), scratch);
      from = scratch;
    }
    for (int64_t position = 0; position < view.positions;) {
      const ac_tile tile = ac_next_tile(&view, position, WIDE, NARROW, NARROW);
      if (tile.width == WIDE)
        tile_wide(p, &view, row, weights, from, y, tile.at);
      else if (tile.width == NARROW)
        tile_narrow(p, &view, row, weights, from, y, tile.at);
      else
        single_pixel(p, &view, row, weights, from, y, tile.at);
      position = tile.at + tile.width;
    }
  }
}

int64_t ac_s8_depthwise_bytes(const ac_problem *p) {
#if AC_HAS_PLANES
  if (plane_of(p) != NULL) {
    const ac_padded c = padded_of(p);
    return padded_bytes(&c);
  }
#endif
  const ac_view view = ac_view_of(p);
  return ac_copy_bytes(&view, 1, 4) + (spread_count(p) * (int64_t)sizeof(int16_t) + 63) / 64 * 64;
}

void ac_s8_depthwise(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
#if AC_HAS_PLANES
  ac_plane *plane = plane_of(p);
  if (plane != NULL) {
    run_planes(p, plane, x, y, scratch);
    return;
  }
#endif
  run_view(p, x, y, scratch);
}
