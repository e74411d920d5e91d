/* fp32, dense, windows of 3 x 3 with stride and dilation 1: Winograd's F(2x2, 3x3), 16 products for 4 outputs instead of 36 (Lavin and
 * Gray, arXiv:1509.09308).
 *
 * Packing, rows padded with zeros to a multiple of 4:
 *   weights[16][rows / 4][columns][4]: for every position, group of 4 rows and column, the 4 weights of the group
 * Position 4 * a + b is element (a, b) of G g G', where g is the window and the rows of G are 1 0 0, 1/2 1/2 1/2, 1/2 -1/2 1/2, 0 0 1.
 *
 * A tile is 2 x 2 outputs; it reads 4 x 4 inputs d of every column, and its neighbour begins 2 inputs further on. Its outputs are A' m A,
 * where m is the sum over columns of G g G' times B' d B, element by element, B' has the rows 1 0 -1 0, 0 1 1 0, 0 -1 1 0, 0 1 0 -1, and
 * A' has 1 1 1 0, 0 1 -1 -1. So each of the 16 positions is a matrix product, and tiles are its lanes: numbered row by row, they go
 * in blocks of WIDE, whose inputs and sums are in L2 and look so:
 *   inputs[16][columns][width of the block], with GAP more behind every position
 *   sums[QUADS][16][4][width], of 4 * QUADS rows at a time
 * What is left behind the last whole block is a narrower one, computed together with it, so that it finds weights in L2.
 */
#define AC_HALF 0
#include "f32_winograd.h"
#include "float.h"

#if AC_F32_LANES == 16
#define WIDE 32
#elif AC_F32_LANES == 8
#define WIDE 24
#else
#define WIDE 16
#endif
#if AC_F32_LANES >= 8
#define LANES_OF_TILES 8
#else
#define LANES_OF_TILES 4
#endif

#define TILES AC_JOIN(f32x, LANES_OF_TILES)
#define TILE_MASKS AC_JOIN(i32x, LANES_OF_TILES)
#define LARGER AC_JOIN(larger_, TILES)
#define SMALLER AC_JOIN(smaller_, TILES)
#define SPAN (2 * LANES_OF_TILES + 2) /* inputs of a row that a vector of tiles reads */
#define GAP 16    /* a line, so that 16 streams are not in one set of L1; room for what is stored behind a block's last tile */
#define QUADS 16  /* so that inputs are read from L2 for 64 rows at a time */
#define DEPTH 256 /* columns whose inputs, at one position, stay in L1 */

#define TILE block_wide
#define LANES AC_F32_LANES
#define VECTORS (WIDE / LANES)
#include "f32_winograd_tile.h"

#if WIDE > 16
#define TILE block_16
#define LANES AC_F32_LANES
#define VECTORS (16 / LANES)
#include "f32_winograd_tile.h"
#endif

#define TILE block_8
#define LANES LANES_OF_TILES
#define VECTORS (8 / LANES)
#include "f32_winograd_tile.h"

#define TILE block_4
#define LANES 4
#define VECTORS 1
#include "f32_winograd_tile.h"

/* The same of a single tile, whose lanes are the 4 rows. */
static AC_NOINLINE void block_1(const float *inputs, int64_t depth, const float *weights, int64_t columns, int64_t quads,
                                int64_t first, float *sums) {
  for (; quads > 0; quads--, weights += 4 * columns, sums += 16 * 4) {
    f32x4 sum[8] = {0}; /* which hide the latency of the multiply-add */
    int64_t n = 0;
    for (; n + 8 <= depth; n += 8) {
      AC_FETCH(weights + 4 * (n + columns), 0);
      AC_FETCH(weights + 4 * (n + columns) + 16, 0);
      AC_UNROLL for (int i = 0; i < 8; i++) sum[i] += AC_LOAD(f32x4, weights + 4 * (n + i)) * inputs[n + i];
    }
    for (; n < depth; n++) sum[0] += AC_LOAD(f32x4, weights + 4 * n) * inputs[n];
    AC_UNROLL for (int step = 4; step > 0; step /= 2)
      AC_UNROLL for (int i = 0; i < step; i++) sum[i] += sum[i + step];
    AC_STORE(f32x4, sums, first ? sum[0] : sum[0] + AC_LOAD(f32x4, sums));
  }
}

/* Up to a vector of tiles in one row of them: where it is in its block, and what it reads. */
typedef struct {
  int64_t to, count;
  int64_t top, left;   /* row and column of the first input in its plane, which may lie outside */
  int64_t inside[4];   /* whether each of the 4 rows of inputs lies in the plane */
  int64_t offset[4];   /* and from the beginning of the plane to its part that is read */
  int64_t first, last; /* planes of which whole vectors can be read: those of others begin before x or end behind it */
  int64_t masked;      /* some of a tile's 4 columns of inputs lie outside of the plane */
  TILE_MASKS mask[4];  /* where each of them lies inside */
} piece;

/* Outputs that are neighbours in the block and in y: of the upper or lower row of tiles. */
typedef struct {
  int64_t lower, from, to, length;
} run;

typedef struct {
  int64_t width, count, pieces, runs;
  piece piece[WIDE];
  run run[2 * WIDE];
  float *inputs, *sums;
} block;

static void cut_piece(const ac_problem *p, piece *own) {
  int64_t begin = 0, end = 0, rows = 0;
  for (int64_t r = 0; r < 4; r++) {
    const int64_t row = own->top + r;
    own->inside[r] = row >= 0 && row < p->x_height;
    own->offset[r] = own->inside[r] ? row * p->x_width + own->left : 0;
    if (!own->inside[r]) continue;
    begin = rows++ ? begin : own->offset[r];
    end = own->offset[r] + SPAN;
  }
  own->first = begin < 0 ? (p->x_plane - 1 - begin) / p->x_plane : 0;
  own->last = p->columns - 1 - (end > p->x_plane ? (end - 1) / p->x_plane : 0);
  own->masked = own->left < 0 || own->left + 2 * own->count + 2 > p->x_width;
  for (int64_t s = 0; s < 4; s++)
    for (int64_t i = 0; i < LANES_OF_TILES; i++) {
      const int64_t column = own->left + 2 * i + s;
      own->mask[s][i] = -(column >= 0 && column < p->x_width);
    }
}

static int64_t width_for(int64_t tiles) { return tiles > 16 ? WIDE : tiles > 8 ? 16 : tiles > 4 ? 8 : tiles > 1 ? 4 : 1; }

/* `count` tiles from `tile` on. */
static void cut_block(const ac_problem *p, int64_t tile, int64_t count, block *b) {
  const int64_t across = (p->y_width + 1) / 2;
  b->width = width_for(count);
  b->count = count;
  b->pieces = b->runs = 0;
  for (int64_t to = 0, length; to < count; to += length) {
    const int64_t row = (tile + to) / across, column = (tile + to) % across, left = across - column;
    length = left < count - to ? left : count - to;
    for (int64_t i = 0; i < length; i += LANES_OF_TILES) {
      piece *own = &b->piece[b->pieces++];
      own->to = to + i;
      own->count = length - i < LANES_OF_TILES ? length - i : LANES_OF_TILES;
      own->top = 2 * row - p->pad_top;
      own->left = 2 * (column + i) - p->pad_left;
      cut_piece(p, own);
    }
    const int64_t right = p->y_width - 2 * column, pixels = right < 2 * length ? right : 2 * length;
    for (int64_t i = 0; i < 2 && 2 * row + i < p->y_height; i++)
      b->run[b->runs++] = (run){i, 2 * to, (2 * row + i) * p->y_width + 2 * column, pixels};
  }
}

/* B' d B of a vector of tiles, whose rows of inputs are at `rows`, to the 16 positions `step` apart. */
static inline __attribute__((always_inline)) void transform(const float *const *rows, const int masked, const TILE_MASKS *mask,
                                                            float *to, int64_t step) {
  TILES d[4][4], v[4][4];
  AC_UNROLL for (int r = 0; r < 4; r++) {
    AC_UNROLL for (int s = 0; s < 4; s += 2) {
      const TILES low = AC_LOAD(TILES, rows[r] + s), high = AC_LOAD(TILES, rows[r] + s + LANES_OF_TILES);
      d[r][s] = AC_EVEN(LANES_OF_TILES, low, high);
      d[r][s + 1] = AC_ODD(LANES_OF_TILES, low, high);
    }
    if (masked)
      AC_UNROLL for (int s = 0; s < 4; s++) d[r][s] = (TILES)((TILE_MASKS)d[r][s] & mask[s]);
    v[r][0] = d[r][0] - d[r][2];
    v[r][1] = d[r][1] + d[r][2];
    v[r][2] = d[r][2] - d[r][1];
    v[r][3] = d[r][1] - d[r][3];
  }
  AC_UNROLL for (int s = 0; s < 4; s++) {
    AC_STORE(TILES, to + s * step, v[0][s] - v[2][s]);
    AC_STORE(TILES, to + (4 + s) * step, v[1][s] + v[2][s]);
    AC_STORE(TILES, to + (8 + s) * step, v[2][s] - v[1][s]);
    AC_STORE(TILES, to + (12 + s) * step, v[1][s] - v[3][s]);
  }
}

/* The same near the ends of x, where a whole vector would be read beyond them. */
static AC_NOINLINE void transform_copied(const ac_problem *p, const piece *own, const float *plane, float *to, int64_t step) {
  float copy[4][SPAN] = {0};
  const float *rows[4];
  for (int r = 0; r < 4; r++) {
    rows[r] = copy[r];
    for (int64_t i = 0; own->inside[r] && i < 2 * own->count + 2; i++)
      if (own->left + i >= 0 && own->left + i < p->x_width) copy[r][i] = plane[(own->top + r) * p->x_width + own->left + i];
  }
  transform(rows, 0, own->mask, to, step);
}

/* The inputs of a block. What a vector stores behind its tiles is overwritten by the next one. */
static AC_NOINLINE void transform_block(const ac_problem *p, const float *x, const block *b) {
  static const float zeros[SPAN];
  const int64_t step = p->columns * b->width + GAP;
  float *to = b->inputs;
  for (int64_t c = 0; c < p->columns; c++, x += p->x_plane, to += b->width) {
    for (const piece *own = b->piece; own != b->piece + b->pieces; own++) {
      if (c < own->first || c > own->last) {
        transform_copied(p, own, x, to + own->to, step);
        continue;
      }
      const float *rows[4];
      for (int r = 0; r < 4; r++) rows[r] = own->inside[r] ? x + own->offset[r] : zeros;
      if (own->masked)
        transform(rows, 1, own->mask, to + own->to, step);
      else
        transform(rows, 0, own->mask, to + own->to, step);
    }
  }
}

static inline void copy_run(float *to, const float *from, int64_t length) {
  if (length >= 8) {
    for (int64_t i = 0; i + 8 < length; i += 8) AC_STORE(u32x8, to + i, AC_LOAD(u32x8, from + i));
    AC_STORE(u32x8, to + length - 8, AC_LOAD(u32x8, from + length - 8));
  } else {
    AC_SHORT for (int64_t i = 0; i < length; i++) to[i] = from[i];
  }
}

/* A' m A, bias and activation of all tiles of a block, for one row of the layer. */
static AC_NOINLINE void finish_row(const ac_problem *p, const block *b, const float *sums, int64_t row, float *y) {
  float out[2][2 * WIDE + 2 * LANES_OF_TILES];
  const int64_t step = 4 * b->width;
  const TILES bias = AC_SPLAT(TILES, p->bias[row]), low = AC_SPLAT(TILES, low_real(p)), high = AC_SPLAT(TILES, high_real(p));
  for (int64_t k = 0; k < b->count; k += LANES_OF_TILES) {
    TILES u[2][4];
    AC_UNROLL for (int s = 0; s < 4; s++) {
      const float *from = sums + k + s * step;
      const TILES m1 = AC_LOAD(TILES, from + 4 * step), m2 = AC_LOAD(TILES, from + 8 * step);
      u[0][s] = AC_LOAD(TILES, from) + (m1 + m2);
      u[1][s] = (m1 - m2) - AC_LOAD(TILES, from + 12 * step);
    }
    AC_UNROLL for (int i = 0; i < 2; i++) {
      const TILES middle = u[i][1] + bias;
      const TILES even = SMALLER(high, LARGER(low, u[i][0] + (middle + u[i][2])));
      const TILES odd = SMALLER(high, LARGER(low, (middle - u[i][2]) - u[i][3]));
      AC_STORE(TILES, out[i] + 2 * k, AC_LOW(LANES_OF_TILES, even, odd));
      AC_STORE(TILES, out[i] + 2 * k + LANES_OF_TILES, AC_HIGH(LANES_OF_TILES, even, odd));
    }
  }
  if (bends(p))
    for (int i = 0; i < 2; i++)
      for (int64_t k = 0; k < 2 * b->count; k += LANES_OF_TILES)
        AC_STORE(TILES, out[i] + k, AC_JOIN(ac_bend_, TILES)(p, AC_LOAD(TILES, out[i] + k)));
  y += row * p->y_plane;
  for (const run *own = b->run; own != b->run + b->runs; own++) copy_run(y + own->to, out[own->lower] + own->from, own->length);
}

static void multiply(const block *b, const float *inputs, int64_t depth, const float *weights, int64_t columns, int64_t quads,
                     int64_t first, float *sums) {
  if (b->width == WIDE)
    block_wide(inputs, depth, weights, columns, quads, first, sums);
#if WIDE > 16
  else if (b->width == 16)
    block_16(inputs, depth, weights, columns, quads, first, sums);
#endif
  else if (b->width == 8)
    block_8(inputs, depth, weights, columns, quads, first, sums);
  else if (b->width == 1)
    block_1(inputs, depth, weights, columns, quads, first, sums);
  else
    block_4(inputs, depth, weights, columns, quads, first, sums);
}

static int64_t inputs_of(const ac_problem *p, int64_t width) { return 16 * (p->columns * width + GAP); }
static int64_t sums_of(int64_t width) { return QUADS * 16 * 4 * width; }
static int64_t tiles_of(const ac_problem *p) { return (p->y_height + 1) / 2 * ((p->y_width + 1) / 2); }

int64_t ac_f32_winograd_bytes(const ac_problem *p) {
  const int64_t tiles = tiles_of(p), widths[] = {tiles < WIDE ? 0 : WIDE, tiles % WIDE ? width_for(tiles % WIDE) : 0};
  int64_t elements = GAP;
  for (int i = 0; i < 2; i++) elements += inputs_of(p, widths[i]) + sums_of(widths[i]);
  return elements * (int64_t)sizeof(float);
}

void ac_f32_winograd(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const int64_t tiles = tiles_of(p), quads = (p->rows + 3) / 4;
  const float *weights = p->weights;
  block blocks[2];
  for (int64_t tile = 0, left = tiles; left > 0; left = tiles - tile) {
    const int64_t wide = left < WIDE ? left : WIDE, narrow = left - wide < WIDE ? left - wide : 0, count = narrow ? 2 : 1;
    float *room = scratch;
    for (int64_t n = 0; n < count; n++) {
      block *b = blocks + n;
      cut_block(p, tile, n ? narrow : wide, b);
      b->inputs = room;
      b->sums = room + inputs_of(p, b->width);
      room = b->sums + sums_of(b->width);
      transform_block(p, x, b);
      tile += b->count;
    }
    for (int64_t quad = 0; quad < quads; quad += QUADS) {
      const int64_t some = quads - quad < QUADS ? quads - quad : QUADS;
      for (int64_t at = 0; at < 16; at++)
        for (int64_t first = 0; first < p->columns; first += DEPTH) {
          const float *own = weights + 4 * ((at * quads + quad) * p->columns + first);
          const int64_t depth = p->columns - first < DEPTH ? p->columns - first : DEPTH;
          for (const block *b = blocks; b != blocks + count; b++)
            multiply(b, b->inputs + at * (p->columns * b->width + GAP) + first * b->width, depth, own, p->columns, some, first == 0,
                     b->sums + at * 4 * b->width);
        }
      for (int64_t row = 4 * quad; row < 4 * (quad + some) && row < p->rows; row++)
        for (const block *b = blocks; b != blocks + count; b++)
          finish_row(p, b, b->sums + ((row / 4 - quad) * 16 * 4 + row % 4) * b->width, row, y);
    }
  }
}
