/* What the s8 matrix kernels share: epilogues and the walk over tiles. */
#include "activation.h"
#include "view.h"

/* scaled_<lanes>: the real numbers that sums of one row stand for. */
#define AC_DEFINE_SCALED(lanes)                                                                                    \
  static inline AC_JOIN(f32x, lanes)                                                                               \
      AC_JOIN(scaled_, lanes)(const ac_problem *p, int64_t row, AC_JOIN(i32x, lanes) sum) {                        \
    const AC_JOIN(f32x, lanes) wide = __builtin_convertvector(sum, AC_JOIN(f32x, lanes));                          \
    return AC_JOIN(fma_f32x, lanes)(wide, AC_SPLAT(AC_JOIN(f32x, lanes), p->scale[row]),                           \
                                    AC_SPLAT(AC_JOIN(f32x, lanes), p->bias[row]));                                 \
  }

AC_DEFINE_SCALED(4)
#if AC_S8_LANES == 8
AC_DEFINE_SCALED(8)
#endif
#if AC_VNNI
AC_DEFINE_SCALED(16)
#endif

/* codes_<lanes>: the 4 codes at every position, of reals between low and high once they are rounded; those are less the zero point. */
#define AC_DEFINE_CODES(lanes)                                                                                     \
  static inline AC_JOIN(i32x, lanes)                                                                               \
      AC_JOIN(codes_, lanes)(const AC_JOIN(f32x, lanes) *r, float low, float high, int32_t zero) {                 \
    AC_JOIN(i32x, lanes) q[4];                                                                                     \
    for (int i = 0; i < 4; i++) q[i] = AC_JOIN(round_f32x, lanes)(r[i], low, high);                                \
    return AC_JOIN(quads_i32x, lanes)(q, zero);                                                                    \
  }

AC_DEFINE_CODES(4)
#if AC_S8_LANES == 8
AC_DEFINE_CODES(8)
#endif
#if AC_VNNI
/* What is too low is so as a code, too: one comparison instead of four. */
static inline i32x16 codes_16(const f32x16 *r, float low, float high, int32_t zero) {
  i32x16 q[4];
  for (int i = 0; i < 4; i++) q[i] = nearest_f32x16(smaller_f32x16(AC_SPLAT(f32x16, high), r[i]));
  return limited_quads_i32x16(q, zero, (int32_t)low + zero);
}
#endif

/* All rows of a tile of a sparse kernel, whose sums begin with those at `begin`. */
typedef void ac_tile_function(const ac_problem *p, const ac_view *view, const int8_t *x, const int32_t *begin, void *y, ac_tile tile);

/* Where vector v of a tile begins. With AC_VNNI the last one may do so early, so that tiles are of any width from that of a vector on. */
#if AC_VNNI
#define AT(v, width) ((v) == VECTORS - 1 ? (width) - LANES : LANES * (v))
#else
#define AT(v, width) ((void)(width), LANES * (v))
#endif

#define SCALED(lanes) AC_JOIN(scaled_, lanes)
#define QUADS(lanes) AC_JOIN(quads_i32x, lanes)

/* The outputs of 4 rows at one position. */
static inline void store_pixel(const ac_problem *p, int64_t row, i32x4 sum, const ac_place *place, void *y) {
  const f32x4 r = fma_f32x4(__builtin_convertvector(sum, f32x4), AC_LOAD(f32x4, p->scale + row), AC_LOAD(f32x4, p->bias + row));
  if (p->y_real) {
    const f32x4 real = activate_f32x4(p, r);
    for (int i = 0; i < 4 && row + i < p->rows; i++) ((float *)y)[(row + i) * p->y_plane + place->pixel] = real[i];
  } else {
    const i32x4 q = quantise_f32x4(p, r, low_code(p), high_code(p)) + (int32_t)p->y_zero_point;
    int8_t *to = (int8_t *)y + row * p->y_plane + 4 * place->pixel;
    for (int i = 0; i < 4; i++) to[i] = (int8_t)q[i];
  }
}

#if AC_VNNI
/* What 128 more in every input adds to the sum of every lane, of so many quads of weights. */
static inline i32x16 flipped(const int8_t *weights, int64_t quads) {
  const i32x16 most = flip_i32x16((i32x16){0});
  i32x16 sum[4] = {{0}}; /* independent ones hide the latency of the dot product */
  for (; quads >= 64; quads -= 64, weights += 256)
    AC_UNROLL for (int i = 0; i < 4; i++) sum[i] = dot4u_i32x16(sum[i], most, AC_LOAD(i32x16, weights + 64 * i));
  for (; quads >= 16; quads -= 16, weights += 64) sum[0] = dot4u_i32x16(sum[0], most, AC_LOAD(i32x16, weights));
  if (quads != 0) sum[1] = dot4u_i32x16(sum[1], most, some_quads_i32x16(weights, quads));
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Lanes 4 apart together: the 4 rows of a vector of 4 quads of each. */
static inline i32x4 add_quads(i32x16 sum) {
  const i32x4 a = __builtin_shufflevector(sum, sum, 0, 1, 2, 3), b = __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
  const i32x4 c = __builtin_shufflevector(sum, sum, 8, 9, 10, 11), d = __builtin_shufflevector(sum, sum, 12, 13, 14, 15);
  return (a + b) + (c + d);
}

/* Lanes of every vector of a tile that are outputs, which follow each other in y, and the pixel at which they begin. */
typedef struct {
  uint32_t lanes[8];
  int64_t pixel[8];
} ac_kept;

static inline ac_kept kept_of(const ac_problem *p, const ac_view *view, ac_tile tile) {
  ac_kept kept = {{0}, {0}};
  for (int64_t v = 0; 16 * v < tile.width; v++) {
    const int64_t begin = 16 * v + 16 > tile.width ? tile.width - 16 : 16 * v;
    int64_t row = (tile.at + begin) / view->width, column = (tile.at + begin) % view->width;
    kept.pixel[v] = row * p->y_width + (column < p->y_width ? column : p->y_width);
    for (int64_t i = 0; i < 16 && row < p->y_height; i += view->width - column, column = 0, row++) {
      const int64_t count = p->y_width - column < 16 - i ? p->y_width - column : 16 - i;
      if (count > 0) kept.lanes[v] |= ((1u << count) - 1) << i;
    }
  }
  return kept;
}

/* Where the outputs of rows from `row` to `end` of a tile will be comes into L1: planes of y are too far apart for the processor to do so. */
static inline void fetch_outputs(const ac_problem *p, const void *y, const ac_place *place, int64_t row, int64_t end) {
  if (p->y_real) return;
  for (; row < end && row < p->rows; row += 4) {
    const int8_t *to = (const int8_t *)y + row * p->y_plane + 4 * place->pixel;
    AC_SHORT for (int64_t at = 0; at < 4 * place->width; at += 64) __builtin_prefetch(to + at, 1);
  }
}
#define FETCH_OUTPUTS(p, y, place, row) fetch_outputs(p, y, place, row, (row) + 4)
#else
#define FETCH_OUTPUTS(p, y, place, row)
#endif

static inline uint32_t s8_fill(const ac_problem *p) { return 0x01010101u * (uint8_t)p->x_zero_point; }
