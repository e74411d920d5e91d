/* Included by s8_dense.c where AC_VNNI is set: dense for AVX-512 with VNNI, windows or not.
 *
 * There are two kinds of tiles. Of 48, 32 or 16 pixels the lanes are pixels, and 8 output channels share each vector of inputs: of 48 there
 * are 24 sums, for which 3 vectors and 8 weights are loaded. Where up to FEW pixels are left over (the 49th of 7 x 7; a linear layer) the
 * lanes are 4 rows x 4 quads, as weights lie in memory: no lane is wasted, but the 4 quads must be added at the end. Tiles of both kinds
 * take turns at the weights of 8 rows, up to PANEL_PIXELS pixels of them: a panel.
 *
 * The wider tiles of a 1x1 layer read x itself. So do those of a window without a stride, whose outputs are as wide as x: at each of its
 * positions a tile is a run of x, of which the pixels that lie beside the image are masked. Of other layers, and of a few pixels, inputs
 * are gathered once for all rows. What is read from x is flipped in the loop, which costs nothing beside the products.
 *
 * The sums of weights that flipping asks for are computed when the first panel is, just before its tiles read the same weights; those of a
 * single pixel as its products are.
 */
#include "panel.h"
#include "s8.h"

#define WIDEST 48 /* where nothing is gathered */
#define WIDE 32
#define NARROW 16
#define FEW 8
#define PANEL_PIXELS 64
#define PANEL_TILES 4        /* at most: two wide or narrow ones and those of up to FEW */
#define PANEL_BYTES (40 << 10) /* what L1 has no room for comes from L2 in time */
#define STAGED 16            /* rows that are gathered before they are spread */
#define ALIAS_BYTES 2048     /* planes a multiple of it apart would share few sets of a cache */
#define QUAD_BYTES 16        /* of the weights of 4 rows */
#define MASKED 25            /* most positions of a window that is masked */

/* What the tiles of a part of the inputs share. */
typedef struct {
  const ac_problem *p;
  const ac_view *view;
  void *y;
  const int32_t *begin; /* of every row: what to add to its sums when the part begins */
  int64_t from, depth;  /* in quads */
  int64_t quads;        /* at each position of the window */
  int64_t next_weights; /* from the weights of 4 rows to those of the next */
  int64_t first, last;  /* sums of the first part begin here, those of others where the one before ended */
  float low, high;
} ac_vnni;

typedef struct ac_panel_tile ac_panel_tile;
typedef void ac_part_function(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile);

/* A position of the window, for one tile. */
typedef struct {
  int64_t shift; /* in pixels, from an output's to its input's */
  uint16_t inside[WIDEST / 16]; /* lanes that lie in the image */
} ac_window;

/* A tile of a panel: its inputs of this part, and its sums between parts. */
struct ac_panel_tile {
  ac_place place;
  const int8_t *inputs;
  int64_t step; /* from those of a quad to those of the next; of a few pixels they are spread */
  int32_t *sums;
  ac_part_function *const *run; /* for 4 rows, and for 8 */
  ac_window windows[MASKED];    /* where x is masked: then inputs and step are those of x for all parts */
};

#define TILE tile_widest
#define LANES 16
#define VECTORS (WIDEST / LANES)
#include "s8_dense_vnni_tile.h"

#define TILE tile_wide
#define LANES 16
#define VECTORS (WIDE / LANES)
#include "s8_dense_vnni_tile.h"

#define TILE tile_narrow
#define LANES 16
#define VECTORS (NARROW / LANES)
#include "s8_dense_vnni_tile.h"

/* 4 * groups rows of a few pixels. */
static inline __attribute__((always_inline)) void few_tile(const ac_vnni *part, const int pixels, const int groups, const int alone,
                                                           int64_t row, const int8_t *weights, const ac_panel_tile *tile) {
  i32x16 sum[2][FEW], less[2] = {{0}}, *own = (i32x16 *)(tile->sums + row * 4 * pixels);
  const i32x16 most = flip_i32x16((i32x16){0});
  AC_UNROLL for (int g = 0; g < groups; g++) {
    const i32x4 begin = AC_LOAD(i32x4, part->begin + row + 4 * g), zero = {0};
    const i32x16 spread = __builtin_shufflevector(begin, zero, 0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4);
    AC_UNROLL for (int v = 0; v < pixels; v++) sum[g][v] = part->first ? spread : spread + AC_LOAD(i32x16, own + g * pixels + v);
  }
  const int8_t *from = tile->inputs;
  int64_t left = part->depth;
  for (; left >= 4; left -= 4, weights += 4 * QUAD_BYTES, from += 64 * pixels)
    AC_UNROLL for (int g = 0; g < groups; g++) {
      const i32x16 weight = AC_LOAD(i32x16, weights + g * part->next_weights);
      if (alone) {
        __builtin_prefetch(weights + (g + groups) * part->next_weights, 0, AC_INTO_L2);
        less[g] = dot4u_i32x16(less[g], most, weight);
      }
      AC_UNROLL for (int v = 0; v < pixels; v++) sum[g][v] = dot4u_i32x16(sum[g][v], AC_LOAD(i32x16, from + 64 * v), weight);
    }
  if (left != 0)
    AC_UNROLL for (int g = 0; g < groups; g++) {
      const i32x16 weight = some_quads_i32x16(weights + g * part->next_weights, 4 * left);
      if (alone) less[g] = dot4u_i32x16(less[g], most, weight);
      AC_UNROLL for (int v = 0; v < pixels; v++) sum[g][v] = dot4u_i32x16(sum[g][v], AC_LOAD(i32x16, from + 64 * v), weight);
    }
  ac_place place = tile->place;
  AC_UNROLL for (int v = 0; v < pixels; v++, place.pixel++)
    AC_UNROLL for (int g = 0; g < groups; g++) {
      sum[g][v] -= less[g];
      if (part->last)
        store_pixel(part->p, row + 4 * g, add_quads(sum[g][v]), &place, part->y);
      else
        AC_STORE(i32x16, own + g * pixels + v, sum[g][v]);
    }
}

#define DEFINE_FEW(pixels)                                                                                                 \
  static void few_##pixels##_1(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) {       \
    few_tile(part, pixels, 1, 0, row, weights, tile);                                                                        \
  }                                                                                                                        \
  static void few_##pixels##_2(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) {       \
    few_tile(part, pixels, 2, 0, row, weights, tile);                                                                        \
  }
DEFINE_FEW(1)
DEFINE_FEW(2)
DEFINE_FEW(3)
DEFINE_FEW(4)
DEFINE_FEW(5)
DEFINE_FEW(6)
DEFINE_FEW(7)
DEFINE_FEW(8)

static void alone_1(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) {
  few_tile(part, 1, 1, 1, row, weights, tile);
}
static void alone_2(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) {
  few_tile(part, 1, 2, 1, row, weights, tile);
}

/* The next tile at `pixel`; one of at least 16 begins early rather than being narrow. */
static ac_tile next_tile(int64_t pixels, int64_t pixel, int64_t widest) {
  const int64_t left = pixels - pixel;
  int64_t width = left < FEW ? left : FEW;
  if (pixels >= widest && left > WIDE + FEW)
    width = widest;
  else if (pixels >= WIDE && left > NARROW + FEW)
    width = WIDE;
  else if (pixels >= NARROW && left > FEW)
    width = NARROW;
  return (ac_tile){left < width ? pixels - width : pixel, width};
}

/* For 4 rows and for 8 of a tile; `alone`: it is a single pixel, and there is no other. */
static ac_part_function *const *tile_functions(int64_t width, int64_t alone, int64_t masked) {
  static ac_part_function *const few[FEW][2] = {{few_1_1, few_1_2}, {few_2_1, few_2_2}, {few_3_1, few_3_2}, {few_4_1, few_4_2},
                                                {few_5_1, few_5_2}, {few_6_1, few_6_2}, {few_7_1, few_7_2}, {few_8_1, few_8_2}};
  static ac_part_function *const narrow[2] = {tile_narrow_4, tile_narrow_8}, *const wide[2] = {tile_wide_4, tile_wide_8};
  static ac_part_function *const widest[2] = {tile_widest_4, tile_widest_8}, *const single[2] = {alone_1, alone_2};
  static ac_part_function *const masks[3][2] = {
      {tile_narrow_4_masked, tile_narrow_8_masked}, {tile_wide_4_masked, tile_wide_8_masked}, {tile_widest_4_masked, tile_widest_8_masked}};
  if (masked && width >= NARROW) return masks[width / NARROW - 1];
  return alone ? single : width == WIDEST ? widest : width == WIDE ? wide : width == NARROW ? narrow : few[width - 1];
}

/* Sums of a row of a tile. */
static inline int64_t sum_count(int64_t width) { return width < NARROW ? 4 * width : width; }

/* What is gathered of a quad for a tile. */
static inline int64_t gathered_bytes(int64_t width, int64_t direct) { return direct && width >= NARROW ? 0 : 4 * sum_count(width); }

/* Rows of a panel as they are; `whole` where each lies in one run. */
static inline void gather_rows(int8_t *panel, const ac_source *source, const uint32_t *from, const int32_t *at, int64_t rows, int64_t width,
                               uint32_t fill, const ac_cut *cut) {
  uint32_t *to = (uint32_t *)panel;
  if (cut->whole)
    for (int64_t i = 0; i < rows; i++, to += width)
      for (int64_t v = 0; v < width; v += 16) AC_STORE(i32x16, to + v, AC_LOAD(i32x16, from + at[i] + v));
  else if (cut->eights != 0)
    ac_gather_eights4(to, from, at, rows, width, fill, cut, source->planes, source->pixels);
  else if (width == WIDE && source->flat != 0)
    ac_gather_masked4(to, from, at, rows, WIDE, fill, cut, source->planes, source->flat);
  else
    ac_gather_rows4(to, from, at, rows, width, fill, cut);
}

/* Rows from `row` on of a panel of a few pixels, flipped: every quad four times, 4 quads of each pixel after the other. What an incomplete
 * last vector holds beside them is multiplied by 0. */
static inline void spread_rows(int8_t *panel, int64_t row, const uint32_t *from, const int32_t *at, int64_t rows, int64_t width,
                               uint32_t fill, const ac_cut *cut) {
  uint32_t staged[STAGED * FEW];
  for (int64_t i = 0, some; i < rows; i += some, row += some) {
    some = rows - i < STAGED ? rows - i : STAGED;
    if (!cut->whole) ac_gather_rows4(staged, from, at + i, some, width, fill, cut);
    for (int64_t k = 0; k < some; k++) {
      const uint32_t *quads = cut->whole ? from + at[i + k] : staged + k * width;
      int8_t *to = panel + 64 * ((row + k) / 4) * width + 16 * ((row + k) % 4);
      for (int64_t v = 0; v < width; v++) AC_STORE(i32x4, to + 64 * v, flip_i32x4(AC_SPLAT(i32x4, (int32_t)quads[v])));
    }
  }
}

/* Whether all tiles of more than a few pixels lie in one run of every plane of x, at a distance that caches can bear. */
static int64_t is_direct(const ac_problem *p, const ac_view *view) {
  return !view->copied && p->kernel_height * p->kernel_width == 1 && view->width == p->y_width && 4 * view->plane % ALIAS_BYTES != 0;
}

/* Whether x is masked instead of gathered. */
static int64_t is_masked(const ac_problem *p) {
  const int64_t windows = p->kernel_height * p->kernel_width;
  return windows > 1 && windows <= MASKED && p->stride_height == 1 && p->stride_width == 1 && p->x_width == p->y_width &&
         4 * p->x_plane % ALIAS_BYTES != 0;
}

/* How the tile at `place` lies at every position of the window. */
static void mask_windows(const ac_problem *p, ac_panel_tile *tile) {
  const ac_place *place = &tile->place;
  for (int64_t ky = 0; ky < p->kernel_height; ky++)
    for (int64_t kx = 0; kx < p->kernel_width; kx++) {
      const int64_t down = ky * p->dilation_height - p->pad_top, right = kx * p->dilation_width - p->pad_left;
      ac_window *const window = tile->windows + ky * p->kernel_width + kx;
      window->shift = down * p->x_width + right;
      uint64_t inside = 0;
      int64_t row = place->row + down, column = place->column;
      for (int64_t v = 0, length; v < place->width; v += length, row++, column = 0) {
        length = p->y_width - column < place->width - v ? p->y_width - column : place->width - v;
        const int64_t begin = column + right < 0 ? -right : column;
        const int64_t end = column + length + right > p->x_width ? p->x_width - right : column + length;
        if (row >= 0 && row < p->x_height && begin < end) inside |= (((uint64_t)1 << (end - begin)) - 1) << (v + begin - column);
      }
      memcpy(window->inside, &inside, sizeof window->inside);
    }
}

/* The quads first to first + depth of a tile of a few pixels come from x into the panel, spread as by spread_rows. */
static void spread_windows(const ac_problem *p, const int8_t *x, const ac_panel_tile *tile, int64_t first, int64_t depth, int8_t *panel) {
  const int64_t quads = (p->columns + 3) / 4, width = tile->place.width;
  const i32x4 fill = flip_i32x4(AC_SPLAT(i32x4, (int32_t)s8_fill(p)));
  for (int64_t n = 0, rows; n < depth; n += rows) {
    const int64_t at = (first + n) / quads, quad = (first + n) % quads;
    rows = quads - quad < depth - n ? quads - quad : depth - n;
    const ac_window *const window = tile->windows + at;
    for (int64_t v = 0; v < width; v++) {
      const uint32_t *from = (const uint32_t *)x + tile->place.pixel + v + window->shift + quad * p->x_plane;
      const int inside = window->inside[0] >> v & 1;
      for (int64_t k = n; k < n + rows; k++, from += p->x_plane)
        AC_STORE(i32x4, panel + 64 * (k / 4 * width + v) + 16 * (k % 4), inside ? flip_i32x4(AC_SPLAT(i32x4, (int32_t)*from)) : fill);
    }
  }
}

/* The quads first to first + depth of a tile come into the panel. */
static void gather(const ac_problem *p, const ac_source *source, const ac_panel_tile *tile, const int32_t *offsets, int64_t first,
                   int64_t depth, int8_t *panel) {
  const int64_t quads = (p->columns + 3) / 4, width = tile->place.width;
  const uint32_t *planes = source->planes, *from = planes + ac_first_pixel(source, &tile->place), fill = s8_fill(p);
  ac_cuts cuts;
  ac_no_cuts(&cuts);
  for (int64_t n = 0, rows; n < depth; n += rows) {
    /* In place, tiles are cut in another way at every position of the window. */
    const int64_t window = (first + n) / quads, left = source->in_place ? (window + 1) * quads - first - n : depth;
    rows = left < depth - n ? left : depth - n;
    const ac_cut *cut = ac_cut_at(p, source, &tile->place, window, &cuts);
    const int32_t *at = offsets + first + n;
    if (width < NARROW)
      spread_rows(panel, n, from, at, rows, width, fill, cut);
    else
      gather_rows(panel + 4 * width * n, source, from, at, rows, width, fill, cut);
  }
}

void ac_s8_dense(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p), outputs = ac_outputs_of(p);
  const int64_t quads = (p->columns + 3) / 4, inputs = p->kernel_height * p->kernel_width * quads, rows = (p->rows + 3) / 4 * 4;
  const ac_source source = ac_source_of(p, &view, quads, x, scratch);
  const int64_t masked = is_masked(p);
  int8_t *panel = scratch;
  if (source.planes == scratch && !masked) {
    ac_slack4(ac_pad4(p, &view, x, quads, s8_fill(p), scratch), s8_fill(p));
    panel += ac_copy_bytes(&view, quads, 4);
  }
  int32_t *sums = (int32_t *)(panel + PANEL_BYTES), *begin = sums + rows * (PANEL_PIXELS + 4 * FEW), *later = begin + rows;
  int32_t *offsets = later + rows;
  if (!masked) ac_input_offsets(p, &source, quads, offsets);
  const int64_t alone = outputs.positions == 1, direct = masked || is_direct(p, &view);
  if (alone) memset(later, 0, (size_t)rows * sizeof *later);
  for (int64_t pixel = 0, done = 0; pixel < outputs.positions; done = pixel) {
    ac_panel_tile tiles[PANEL_TILES];
    int64_t count = 0, bytes = 0;
    /* As many tiles as there is room for. */
    for (int64_t room = PANEL_PIXELS + FEW; pixel < outputs.positions; count++) {
      const ac_tile tile = next_tile(outputs.positions, pixel, direct ? WIDEST : WIDE);
      if (tile.width > room) break;
      room -= tile.width;
      tiles[count].place = ac_place_of(p, &outputs, tile.at, tile.width);
      if (masked) mask_windows(p, tiles + count);
      bytes += gathered_bytes(tile.width, direct);
      pixel = tile.at + tile.width;
    }
    const int64_t most = bytes == 0 ? inputs : PANEL_BYTES / bytes / 4 * 4, parts = (inputs + most - 1) / most;
    const int64_t most_depth = ((inputs + parts - 1) / parts + 3) / 4 * 4;
    for (int64_t t = 0, at = 0; t < count; t++) {
      tiles[t].sums = sums + rows * at;
      tiles[t].run = tile_functions(tiles[t].place.width, alone, masked);
      at += sum_count(tiles[t].place.width);
    }
    for (int64_t first = 0; first < inputs; first += most_depth) {
      const int64_t depth = inputs - first < most_depth ? inputs - first : most_depth;
      for (int64_t t = 0, at = 0; t < count; t++) {
        ac_panel_tile *tile = tiles + t;
        if (direct && tile->place.width >= NARROW) {
          tile->inputs = (const int8_t *)x + 4 * (tile->place.pixel + (masked ? 0 : first * p->x_plane));
          tile->step = 4 * p->x_plane;
        } else {
          if (masked)
            spread_windows(p, x, tile, first, depth, panel + at * most_depth);
          else
            gather(p, &source, tile, offsets, first, depth, panel + at * most_depth);
          tile->inputs = panel + at * most_depth;
          tile->step = 4 * tile->place.width;
        }
        at += gathered_bytes(tile->place.width, direct);
      }
      if (first + depth == inputs)
        for (int64_t t = 0; t < count; t++) fetch_outputs(p, y, &tiles[t].place, 0, 8);
      if (done == 0 && first == 0) memcpy(begin, p->start, (size_t)rows * sizeof *begin);
      const ac_vnni part = {p,     &outputs,   y, first != 0 ? later : alone ? p->start : done != 0 ? begin : later,
                            first, depth, quads, QUAD_BYTES * inputs,
                            first == 0, first + depth == inputs, low_code(p), high_code(p)};
      for (int64_t row = 0; row < rows; row += 8) {
        const int two = row + 4 < rows;
        const int8_t *weights = (const int8_t *)p->weights + QUAD_BYTES * (row / 4 * inputs + first);
        if (alone) {
          tiles->run[two](&part, row, weights, tiles);
          continue;
        }
        if (done == 0)
          for (int64_t g = row; g < row + 8 && g < rows; g += 4) {
            const i32x4 less = add_quads(flipped(weights + (g - row) / 4 * part.next_weights, 4 * depth));
            const i32x4 before = AC_LOAD(i32x4, begin + g);
            AC_STORE(i32x4, later + g, (first == 0 ? before : (i32x4){0}) - less);
            AC_STORE(i32x4, begin + g, before - less);
          }
        /* While a tile of the first panel is computed, its share of the weights that come after the next ones leaves memory. */
        const int8_t *const ahead = row + 16 < rows ? weights + 4 * part.next_weights
                                                    : (const int8_t *)p->weights + QUAD_BYTES * (part.last ? 0 : first + depth);
        const int64_t share = (QUAD_BYTES * depth / count + 63) / 64 * 64;
        for (int64_t t = 0; t < count; t++) {
          const ac_panel_tile *tile = tiles + t;
          if (part.last) fetch_outputs(p, y, &tile->place, row + 8, row + 16);
          if (done == 0) ac_fetch_weights_l2(ahead, part.next_weights, t * share, (t + 1) * share);
          tile->run[two](&part, row, weights, tile);
        }
      }
    }
    if (done == 0) memset(later, 0, (size_t)rows * sizeof *later);
  }
}
