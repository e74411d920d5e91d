/* Included by s8_dense.c where AC_DOT2 is set: gathered inputs as pairs of int16, for windows of at least FEWEST_PAIRS quads.
 *
 * They are widened as they are gathered, once for all rows; weights are widened as they are read. A vector of weights is a quad of inputs
 * of 4 rows, and is multiplied with that quad of one pixel in all lanes: a row has two lanes of sums, which are added at the end, and
 * the 4 rows of a pixel are neighbours, as they are in y. Lanes are not pixels, so a tile may have any number of them: all pixels are
 * cut into tiles of nearly the same size. 12 sums, 2 weights, an input and a product are the 16 registers of AVX2.
 */
#define FEWEST_PAIRS 24 /* with fewer, what a tile costs besides its products is more than they gain */
#define TILE_PIXELS 6
#define PANEL_TILES 5   /* at most PANEL_PIXELS pixels */
#define PANEL_PIXELS 32
#define PANEL_QUADS 80 /* so that a panel stays in L1 beside weights and sums */
#define NEAR_BYTES (1 << 18) /* weights of that size stay in L2 */
#define STAGED 16            /* rows that are gathered before they are widened */

/* What the tiles of a part of the inputs share. */
typedef struct {
  const ac_problem *p;
  void *y;
  int64_t depth;        /* of the panel, in quads */
  int64_t next_weights; /* from the weights of 4 rows to those of the next */
  int64_t first, last;
  float low, high;
} ac_pairs;

/* What becomes of the sums of 4 rows at some pixels. */
static inline __attribute__((always_inline)) void pairs_finish(const ac_pairs *part, const int pixels, int64_t row, int64_t pixel,
                                                               const i32x8 *sum) {
  const ac_problem *p = part->p;
  const int half = (pixels + 1) / 2; /* a vector is pixel v and pixel v + half */
  const f32x4 scales = AC_LOAD(f32x4, p->scale + row), biases = AC_LOAD(f32x4, p->bias + row);
  const f32x8 scale = __builtin_shufflevector(scales, scales, 0, 1, 2, 3, 0, 1, 2, 3);
  const f32x8 bias = __builtin_shufflevector(biases, biases, 0, 1, 2, 3, 0, 1, 2, 3);
  f32x8 r[4] = {0};
  AC_UNROLL for (int v = 0; v < half; v++) {
    const i32x8 other = v + half < pixels ? sum[v + half] : sum[v];
    r[v] = fma_f32x8(__builtin_convertvector(AC_EVEN(8, sum[v], other) + AC_ODD(8, sum[v], other), f32x8), scale, bias);
  }
  if (p->y_real) {
    for (int v = 0; v < half; v++) {
      const f32x8 real = activate_f32x8(p, r[v]);
      for (int i = 0; i < 4 && row + i < p->rows; i++) {
        float *to = (float *)part->y + (row + i) * p->y_plane + pixel + v;
        to[0] = real[i];
        if (v + half < pixels) to[half] = real[4 + i];
      }
    }
    return;
  }
  i32x8 q[4];
  if (bends(p))
    AC_UNROLL for (int v = 0; v < 4; v++) q[v] = quantise_f32x8(p, r[v], part->low, part->high);
  else
    AC_UNROLL for (int v = 0; v < 4; v++) q[v] = round_f32x8(r[v], part->low, part->high);
  const i32x8 codes = codes_i32x8(q, (int32_t)p->y_zero_point);
  int8_t *to = (int8_t *)part->y + row * p->y_plane + 4 * pixel;
  memcpy(to, &codes, 4 * (size_t)half);
  memcpy(to + 4 * half, (const int8_t *)&codes + 16, 4 * (size_t)(pixels - half));
}

/* 4 * groups rows of a tile: sums begin as the start or, behind the first inputs, as `own`, and end there unless these are the last. */
static inline __attribute__((always_inline)) void pairs_tile(const ac_pairs *part, const int pixels, const int groups, int64_t row,
                                                             int64_t pixel, const int16_t *from, const int8_t *weights, i32x8 *own) {
  i32x8 sum[2][TILE_PIXELS];
  AC_UNROLL for (int g = 0; g < groups; g++) {
    const i32x4 start = AC_LOAD(i32x4, part->p->start + row + 4 * g);
    const i32x8 spread = __builtin_shufflevector(start, (i32x4){0}, 0, 4, 1, 5, 2, 6, 3, 7);
    AC_UNROLL for (int v = 0; v < pixels; v++) sum[g][v] = part->first ? spread : own[g * pixels + v];
  }
  const int64_t next = part->next_weights;
  const int8_t *const end = weights + STEP * part->depth;
  AC_ALIGNED_LOOP for (; weights != end; weights += STEP, from += 4 * PANEL_PIXELS) {
    i16x16 weight[2];
    AC_UNROLL for (int g = 0; g < groups; g++) weight[g] = __builtin_convertvector(AC_LOAD(i8x16, weights + g * next), i16x16);
    AC_UNROLL for (int v = 0; v < pixels; v++) {
      const i16x16 x = splat_quad_i16x16(from + 4 * v);
      AC_UNROLL for (int g = 0; g < groups; g++) sum[g][v] = dot2_i32x8(sum[g][v], x, weight[g]);
    }
  }
  AC_UNROLL for (int g = 0; g < groups; g++) {
    if (part->last)
      pairs_finish(part, pixels, row + 4 * g, pixel, sum[g]);
    else
      AC_UNROLL for (int v = 0; v < pixels; v++) own[g * pixels + v] = sum[g][v];
  }
}

typedef void pairs_function(const ac_pairs *part, int64_t row, int64_t pixel, const int16_t *from, const int8_t *weights, i32x8 *own);

#define DEFINE_TILE(pixels, groups)                                                                                            \
  static void pairs_##pixels##_##groups(const ac_pairs *part, int64_t row, int64_t pixel, const int16_t *from,                 \
                                        const int8_t *weights, i32x8 *own) {                                                   \
    pairs_tile(part, pixels, groups, row, pixel, from, weights, own);                                                          \
  }
DEFINE_TILE(1, 1)
DEFINE_TILE(2, 1)
DEFINE_TILE(3, 1)
DEFINE_TILE(4, 1)
DEFINE_TILE(5, 1)
DEFINE_TILE(6, 1)
DEFINE_TILE(1, 2)
DEFINE_TILE(2, 2)
DEFINE_TILE(3, 2)
DEFINE_TILE(4, 2)
DEFINE_TILE(5, 2)
DEFINE_TILE(6, 2)

static pairs_function *const pairs_functions[2][TILE_PIXELS] = {
    {pairs_1_1, pairs_2_1, pairs_3_1, pairs_4_1, pairs_5_1, pairs_6_1},
    {pairs_1_2, pairs_2_2, pairs_3_2, pairs_4_2, pairs_5_2, pairs_6_2},
};

/* A row of a panel. */
static inline void widen(int16_t *to, const uint32_t *from) {
  AC_UNROLL for (int i = 0; i < PANEL_PIXELS; i += 4)
    AC_STORE(i16x16, to + 4 * i, __builtin_convertvector(AC_LOAD(i8x16, from + i), i16x16));
}

/* The quads first to first + depth of the pixels at `place`. */
static void gather_pairs(const ac_problem *p, const ac_source *source, const ac_place *place, const int32_t *offsets, int64_t first,
                         int64_t depth, ac_cuts *cuts, int16_t *to) {
  const int64_t quads = (p->columns + 3) / 4;
  const uint32_t *planes = source->planes, *from = planes + ac_first_pixel(source, place), fill = s8_fill(p);
  /* Within these, whole rows of a panel may be read even if the tile is narrower. */
  const int64_t pixels = source->in_place ? source->flat : quads * source->plane;
  uint32_t staged[STAGED * PANEL_PIXELS];
  for (int64_t n = first, rows; n < first + depth; n += rows) {
    /* In place, tiles are cut in another way at every position of the window. */
    const int64_t window = n / quads, left = source->in_place ? (window + 1) * quads - n : depth;
    rows = left < first + depth - n ? left : first + depth - n;
    const ac_cut *cut = ac_cut_at(p, source, place, window, cuts);
    for (int64_t i = 0, some; i < rows; i += some) {
      some = rows - i < STAGED ? rows - i : STAGED;
      const int32_t *at = offsets + n + i;
      const int64_t direct = cut->whole && from - planes + at[some - 1] + PANEL_PIXELS <= pixels;
      if (!direct && source->flat != 0)
        ac_gather_masked4(staged, from, at, some, PANEL_PIXELS, fill, cut, planes, source->flat);
      else if (cut->eights != 0)
        ac_gather_eights4(staged, from, at, some, PANEL_PIXELS, fill, cut, planes, source->pixels);
      else if (!direct)
        ac_gather_rows4(staged, from, at, some, PANEL_PIXELS, fill, cut);
      for (int64_t k = 0; k < some; k++, to += 4 * PANEL_PIXELS) widen(to, direct ? from + at[k] : staged + k * PANEL_PIXELS);
    }
  }
}

static void dense_by_pairs(const ac_problem *p, const ac_view *outputs, const ac_source *source, int64_t inputs, void *y,
                           void *scratch) {
  const int64_t rows = (p->rows + 3) / 4 * 4;
  int16_t *panel = scratch;
  i32x8 *sums = (i32x8 *)(panel + 4 * PANEL_QUADS * PANEL_PIXELS);
  int32_t *offsets = (int32_t *)(sums + rows / 4 * PANEL_PIXELS);
  ac_input_offsets(p, source, (p->columns + 3) / 4, offsets);
  const int64_t pixels = outputs->positions, tiles = (pixels + TILE_PIXELS - 1) / TILE_PIXELS;
  const int64_t panels = (tiles + PANEL_TILES - 1) / PANEL_TILES, parts = (inputs + PANEL_QUADS - 1) / PANEL_QUADS;
  const int64_t most_depth = (inputs + parts - 1) / parts;
  for (int64_t n = 0; n < panels; n++) {
    const int64_t tile = tiles * n / panels, behind = tiles * (n + 1) / panels;
    const int64_t begin = pixels * tile / tiles, width = pixels * behind / tiles - begin;
    const ac_place place = ac_place_of(p, outputs, begin, width);
    ac_cuts cuts;
    ac_no_cuts(&cuts);
    for (int64_t first = 0; first < inputs; first += most_depth) {
      const int64_t depth = inputs - first < most_depth ? inputs - first : most_depth;
      gather_pairs(p, source, &place, offsets, first, depth, &cuts, panel);
      const ac_pairs part = {p, y, depth, STEP * inputs, first == 0, first + depth == inputs, low_code(p), high_code(p)};
      /* While a tile is computed, its share of the weights that come next, unless they are in L2 since the first panel. */
      const int64_t share = n > 0 && rows * inputs * UNIT <= NEAR_BYTES ? 0 : (STEP * depth / (behind - tile) + 63) / 64 * 64;
      for (int64_t row = 0; row < rows; row += 8) {
        const int two = row + 4 < rows;
        const int8_t *weights = (const int8_t *)p->weights + STEP * (row / 4 * inputs + first);
        i32x8 *own = sums + row / 4 * PANEL_PIXELS;
        const int8_t *const later = row + 8 < rows ? weights + 2 * STEP * inputs
                                                   : (const int8_t *)p->weights + STEP * (part.last ? 0 : first + depth);
        for (int64_t t = tile, pixel = begin, next; t < behind; t++, own += (1 + two) * (next - pixel), pixel = next) {
          ac_fetch_weights_l1(later, part.next_weights, (t - tile) * share, (t - tile + 1) * share);
          next = pixels * (t + 1) / tiles;
          pairs_functions[two][next - pixel - 1](&part, row, pixel, panel + 4 * (pixel - begin), weights, own);
        }
      }
    }
  }
}
