/* Included by float_4oc.h: the exported function of a dense kernel.
 *
 * Output pixels are cut into panels of a few tiles. The inputs of a panel are gathered (panel.h), because the same lines of distant
 * planes would be more pages than a TLB has entries; then come all rows, 4 at a time, and for them all tiles of the panel. So weights are
 * read once for a panel, and outputs written in longer runs. A panel has as many tiles as inputs leave room for in L1. Of more than
 * DEPTH inputs it takes a part at a time and keeps the sums: of one tile if weights are few, else of AC_PART_TILES and less deep.
 *
 * On AVX-512 rows come 8 at a time (float_4oc_rounds.h), which read an input half as often: a panel may lie in L2, and without a window all
 * tiles but the narrowest read x itself.
 */
#if defined(__AVX__) && MOST_GROUPS == 1
#define DEPTH 192 /* inputs that leave room in L1 for weights and for what is gathered next */
#else
#define DEPTH AC_FLOAT_DEPTH
#endif
#define MOST_TILES 8
#define NARROWER 3 /* most tiles of a panel behind the wide ones; together they are no wider than one of those */
#define FEWEST_TOGETHER 48 /* inputs from which the first rows are computed while they are gathered: with fewer, the calls cost more */
#define PIXEL_CHAINS 4 /* sums of a row for a single pixel */
#define NEAR_BYTES (1 << 18) /* weights of that size stay in L2: it does not matter how often they are read; inputs need not be fetched */

/* Tiles of 4 rows, and of MOST_GROUPS times 4; most pixels at the end for which tiles narrower than the widest take less time than that. */
typedef void tile_function(const ac_part *part, const ac_gathered *tile, int64_t count, int64_t row, const element *weights, real *own);
static const struct {
  tile_function *wide, *middle, *narrow, *column;
} kinds[] = {
    {tile_wide, tile_middle, tile_narrow, tile_column},
#if MOST_GROUPS == 2
    {tile_wide_pair, tile_middle_pair, tile_narrow_pair, tile_column_pair},
#endif
};
#if MOST_GROUPS == 2
#define FIRST_TILE tile_wide_pair
#define MOST_NARROW (2 * MIDDLE + NARROW)
#else
#define FIRST_TILE tile_wide
#define MOST_NARROW (MIDDLE + NARROW)
#endif

#if defined(__AVX__)
/* A linear layer: weights come from memory, in a single stream, and a register holds those of two inputs. `once` has room for the inputs. */
static void linear(const ac_problem *p, const element *x, element *y, element *once) {
  const ac_bounds bounds = bounds_of(p);
  const element *weights = p->weights;
  if (p->x_plane != 1) {
    AC_PICK((void *)once, (const void *)x, p->x_plane, p->columns);
    x = once;
  }
  for (int64_t row = 0; row < p->rows; row += 4) {
    REALS(4) total = __builtin_convertvector(AC_LOAD(f32x4, p->bias + row), REALS(4));
    REALS(8) sum[PIXEL_CHAINS] = {0};
    int64_t n = 0;
    for (; n + 2 * PIXEL_CHAINS <= p->columns; n += 2 * PIXEL_CHAINS, weights += 8 * PIXEL_CHAINS)
      AC_UNROLL for (int i = 0; i < PIXEL_CHAINS; i += 2) {
        const REALS(4) four = LOAD_REALS(4, x + n + 2 * i);
        sum[i] += LOAD_REALS(8, weights + 8 * i) * __builtin_shufflevector(four, four, 0, 0, 0, 0, 1, 1, 1, 1);
        sum[i + 1] += LOAD_REALS(8, weights + 8 * i + 8) * __builtin_shufflevector(four, four, 2, 2, 2, 2, 3, 3, 3, 3);
      }
    for (; n < p->columns; n++, weights += 4) total += LOAD_REALS(4, weights) * (real)x[n];
    for (int i = 1; i < PIXEL_CHAINS; i++) sum[0] += sum[i];
    total += __builtin_shufflevector(sum[0], sum[0], 0, 1, 2, 3) + __builtin_shufflevector(sum[0], sum[0], 4, 5, 6, 7);
    total = FINISH(4)(p, bounds, total);
    for (int i = 0; i < 4 && row + i < p->rows; i++) y[(row + i) * p->y_plane] = (element)total[i];
  }
}
#else
#define PIXEL_GROUPS 4 /* of 4 rows, computed together */

/* 4 * groups rows of a linear layer: weights come from memory, several streams of them at a time. */
static inline __attribute__((always_inline)) void pixel_rows(const ac_problem *p, const int groups, int64_t row, const element *x,
                                                             element *y) {
  const element *weights = (const element *)p->weights + row * p->columns;
  const int64_t next = 4 * p->columns;
  REALS(4) sum[PIXEL_GROUPS][PIXEL_CHAINS] = {0};
  AC_UNROLL for (int g = 0; g < groups; g++) sum[g][0] = __builtin_convertvector(AC_LOAD(f32x4, p->bias + row + 4 * g), REALS(4));
  int64_t n = 0;
  for (; n + 4 <= p->columns; n += 4, weights += 16) {
    AC_UNROLL for (int g = 0; g < groups; g++)
      AC_UNROLL for (int i = 0; i < 4; i++)
        sum[g][i % PIXEL_CHAINS] += LOAD_REALS(4, weights + g * next + 4 * i) * (real)x[(n + i) * p->x_plane];
  }
  for (; n < p->columns; n++, weights += 4)
    AC_UNROLL for (int g = 0; g < groups; g++) sum[g][0] += LOAD_REALS(4, weights + g * next) * (real)x[n * p->x_plane];
  const ac_bounds bounds = bounds_of(p);
  AC_UNROLL for (int g = 0; g < groups; g++) {
    AC_UNROLL for (int step = PIXEL_CHAINS / 2; step > 0; step /= 2)
      AC_UNROLL for (int i = 0; i < step; i++) sum[g][i] += sum[g][i + step];
    const REALS(4) total = FINISH(4)(p, bounds, sum[g][0]);
    for (int i = 0; i < 4 && row + 4 * g + i < p->rows; i++) y[(row + 4 * g + i) * p->y_plane] = (element)total[i];
  }
}

static void linear(const ac_problem *p, const element *x, element *y, element *once) {
  (void)once;
  int64_t row = 0;
  for (; row + 4 * PIXEL_GROUPS <= p->rows; row += 4 * PIXEL_GROUPS) pixel_rows(p, PIXEL_GROUPS, row, x, y);
  for (; row < p->rows; row += 4) pixel_rows(p, 1, row, x, y);
}
#endif

/* As many as `most` wide tiles from `pixel` on, and the narrower ones behind the last of all. */
static int64_t cut(const ac_problem *p, const ac_view *outputs, int64_t pixel, int64_t most, ac_gathered *tiles) {
  int64_t count = 0;
  while (pixel < outputs->positions) {
    const int64_t left = outputs->positions - pixel;
    ac_tile tile = ac_next_tile(outputs, pixel, WIDE, MIDDLE, NARROW);
    if (left == 1)
      tile = (ac_tile){pixel, 1};
    else if (tile.width == WIDE && left <= MOST_NARROW)
      tile = (ac_tile){pixel, MIDDLE}; /* and others, which take less time than a wide one */
    if (tile.width == WIDE && count == most) break;
    tiles[count++].place = ac_place_of(p, outputs, tile.at, tile.width);
    pixel = tile.at + tile.width;
  }
  return count;
}

/* Tiles of one run: WIDTH inputs of each of `rows` planes. */
#define AC_DEFINE_GATHER(name, width)                                                                      \
  static void name(element *to, const element *from, const int32_t *offsets, int64_t rows) {               \
    for (int64_t i = 0; i < rows; i++, to += width) memcpy(to, from + offsets[i], width * sizeof *to);     \
  }
AC_DEFINE_GATHER(gather_wide, WIDE)
AC_DEFINE_GATHER(gather_middle, MIDDLE)

/* Inputs n to n + rows of a tile into its panel, all of which are at one position of the window if the source is x itself. */
static void gather_tile(const ac_source *source, const int32_t *offsets, int64_t n, int64_t rows, const ac_gathered *tile,
                        const ac_cut *cut) {
  const element *planes = source->planes, *from = planes + ac_first_pixel(source, &tile->place);
  const int64_t width = tile->place.width;
  element *to = tile->inputs + n * width;
  if (width == WIDE && cut->whole) {
    gather_wide(to, from, offsets, rows);
  } else if (width == MIDDLE && cut->whole) {
    gather_middle(to, from, offsets, rows);
  } else if (width == WIDE && cut->eights != 0) {
    ac_gather_eights((void *)to, (const void *)from, offsets, rows, WIDE, 0, cut, (const void *)planes, source->pixels);
  } else if (width == MIDDLE && cut->eights != 0) {
    ac_gather_eights((void *)to, (const void *)from, offsets, rows, MIDDLE, 0, cut, (const void *)planes, source->pixels);
  } else if (width == WIDE && source->flat != 0) {
    ac_gather_masked((void *)to, (const void *)from, offsets, rows, WIDE, 0, cut, (const void *)planes, source->flat);
  } else if (width == WIDE) {
    ac_gather_rows((void *)to, (const void *)from, offsets, rows, WIDE, 0, cut);
  } else if (width == MIDDLE) {
    ac_gather_rows((void *)to, (const void *)from, offsets, rows, MIDDLE, 0, cut);
  } else if (width == NARROW) {
    ac_gather_rows((void *)to, (const void *)from, offsets, rows, NARROW, 0, cut);
  } else {
    gather_column(tile->inputs + COPIES * n, from, offsets, rows, cut);
  }
}

/* Wide tiles of one run of every plane, whose rows are as long as those of outputs: plane by plane. */
static void gather_run(const element *from, const int32_t *offsets, const ac_gathered *tiles, int64_t count, int64_t depth) {
  for (int64_t n = 0; n < depth; n++)
    AC_SHORT for (const ac_gathered *tile = tiles; tile != tiles + count; tile++)
      memcpy(tile->inputs + n * WIDE, from + offsets[n] + tile->place.pixel, WIDE * sizeof *from);
}

/* How many inputs of a part, from its n-th on, are cut in the same way: those at one position of the window, if the source is x itself. */
static inline int64_t alike(const ac_problem *p, const ac_source *source, int64_t first, int64_t n, int64_t depth) {
  if (!source->in_place) return depth - n;
  const int64_t left = p->columns - (first + n) % p->columns;
  return left < depth - n ? left : depth - n;
}

/* How a tile is cut for them. */
static inline const ac_cut *cut_at(const ac_problem *p, const ac_source *source, const ac_gathered *tile, int64_t n, ac_cuts *cuts) {
  return ac_cut_at(p, source, &tile->place, source->in_place ? n / p->columns : 0, cuts);
}

/* The inputs first to first + depth of a tile. */
static void gather(const ac_problem *p, const ac_source *source, const int32_t *offsets, const ac_gathered *tile, ac_cuts *cuts,
                   int64_t first, int64_t depth) {
  for (int64_t n = 0, rows; n < depth; n += rows) {
    rows = alike(p, source, first, n, depth);
    const ac_cut *cut = cut_at(p, source, tile, first + n, cuts);
    gather_tile(source, offsets + first + n, n, rows, tile, cut);
  }
}

#define WIDE_VECTORS (WIDE / REAL_LANES)

/* Products of `rows` inputs, each of which is copied just before; the copy of one is read only after the next one was copied. */
#define COPY_AND_STEP(copy)                                           \
  {                                                                   \
    const int64_t i = 0;                                              \
    copy;                                                             \
  }                                                                   \
  AC_SHORT for (int64_t i = 1; i < rows; i++, weights += 4) {         \
    copy;                                                             \
    for (int group = 0; group < MOST_GROUPS; group++)                 \
      AC_FETCH(weights + (MOST_GROUPS + group) * next_weights, 0);    \
    AC_JOIN(FIRST_TILE, _step)                                        \
    (sum, to + (i - 1) * WIDE, weights, next_weights);                \
  }                                                                   \
  AC_JOIN(FIRST_TILE, _step)(sum, to + (rows - 1) * WIDE, weights, next_weights)

/* Products of `rows` inputs that are one run of a plane. */
static inline __attribute__((always_inline)) void whole_steps(REALS(REAL_LANES) (*sum)[WIDE_VECTORS], element *to,
                                                              const element *from, const int32_t *offsets, int64_t rows,
                                                              const element *weights, int64_t next_weights) {
  COPY_AND_STEP(memcpy(to + i * WIDE, from + offsets[i], WIDE * sizeof *to));
}

/* The same of every second pixel of one run. */
static inline __attribute__((always_inline)) void second_steps(REALS(REAL_LANES) (*sum)[WIDE_VECTORS], element *to,
                                                               const element *from, const int32_t *offsets, int64_t rows,
                                                               const element *weights, int64_t next_weights,
                                                               const ac_eights *eights) {
  COPY_AND_STEP(ac_eights_row((void *)(to + i * WIDE), (const void *)(from + offsets[i]), WIDE, eights, 1));
}

/* The first 4 * MOST_GROUPS rows of a wide tile, whose inputs first to first + depth are gathered at the same time where they are no
 * pieces: waiting for them costs little between products. */
static AC_NOINLINE void gather_first_rows(const ac_part *part, const ac_source *source, const int32_t *offsets, const ac_gathered *tile,
                                          ac_cuts *cuts, int64_t first, real *own) {
  const ac_problem *p = part->p;
  const element *weights = (const element *)p->weights + 4 * first, *planes = source->planes;
  const int64_t begin = ac_first_pixel(source, &tile->place);
  REALS(REAL_LANES) sum[4 * MOST_GROUPS][WIDE_VECTORS];
  AC_JOIN(FIRST_TILE, _begin)(p, part->first, 0, own, sum);
  if (part->last) AC_JOIN(FIRST_TILE, _fetch)(part, p, tile, 0, 0, 4 * MOST_GROUPS);
  for (int64_t n = 0, rows; n < part->depth; n += rows, weights += 4 * rows) {
    rows = alike(p, source, first, n, part->depth);
    const ac_cut *cut = cut_at(p, source, tile, first + n, cuts);
    const int32_t *at = offsets + first + n;
    element *to = tile->inputs + n * WIDE;
    if (cut->whole) {
      whole_steps(sum, to, planes + begin, at, rows, weights, part->next_weights);
      continue;
    }
    if (cut->eights == 1) {
      const ac_eights eights = ac_eights_of(cut, WIDE, 0, 1);
      if (ac_eights_fit(&eights, begin + at[0], source->pixels) && ac_eights_fit(&eights, begin + at[rows - 1], source->pixels)) {
        second_steps(sum, to, planes + begin, at, rows, weights, part->next_weights, &eights);
        continue;
      }
    }
    gather_tile(source, at, n, rows, tile, cut);
    for (int64_t i = 0; i < rows; i++) AC_JOIN(FIRST_TILE, _step)(sum, to + i * WIDE, weights + 4 * i, part->next_weights);
  }
  AC_JOIN(FIRST_TILE, _end)(part, p, part->bounds, part->last, tile, 0, own, sum);
}

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p), outputs = ac_outputs_of(p);
  const ac_source source = ac_source_of(p, &view, p->columns, x, scratch);
  element *panel = scratch;
  if (source.planes == scratch) {
    PAD(p, &view, x, scratch);
    panel = (element *)((char *)scratch + ac_copy_bytes(&view, p->columns, sizeof *panel));
  }
  if (outputs.positions == 1 && !view.copied && p->kernel_height * p->kernel_width == 1) {
    linear(p, x, y, panel);
    return;
  }
  if (outputs.positions == 1 && !source.in_place) {
    single_pixel(p, &view, source.planes, y, 0);
    return;
  }
  /* ac_scratch_bytes knows of room for twice AC_FLOAT_DEPTH inputs of a tile, and for the sums of AC_PART_TILES + 1 tiles. */
  real *partial = (real *)(panel + 2 * AC_FLOAT_DEPTH * WIDE);
  const int64_t rows = (p->rows + 3) / 4 * 4, own_sums = (AC_PART_TILES + 1) * WIDE;
  int32_t *offsets = (int32_t *)(partial + rows * own_sums);
  ac_input_offsets(p, &source, p->columns, offsets);
  const int64_t inputs = p->kernel_height * p->kernel_width * p->columns;
  const int64_t near = p->columns * p->x_plane * (int64_t)sizeof *panel <= NEAR_BYTES;
  const int64_t part_tiles = rows * inputs * (int64_t)sizeof *panel > NEAR_BYTES ? AC_PART_TILES : 1;
  const int64_t most_part = inputs <= DEPTH ? inputs : DEPTH / part_tiles;
  const int64_t parts = (inputs + most_part - 1) / most_part;
  const int64_t most_depth = ((inputs + parts - 1) / parts + 3) / 4 * 4;
  const int64_t room = DEPTH / most_depth, most = room < MOST_TILES ? room : MOST_TILES;
  const int64_t one_run = !source.in_place && source.width == p->y_width;
  /* Planes that lie a multiple of 4 KiB apart share a few sets of the caches, which do not hold a tile of all of them. */
  const int64_t apart = p->x_plane * (int64_t)sizeof *panel % 4096 != 0;
  const int64_t direct = MOST_GROUPS == 2 && !view.copied && p->kernel_height * p->kernel_width == 1 && apart;
  ac_gathered tiles[MOST_TILES + NARROWER];
  ac_cuts cuts[AC_PART_TILES + NARROWER];
  for (int64_t pixel = 0; pixel < outputs.positions;) {
    const int64_t count = cut(p, &outputs, pixel, most, tiles);
    int64_t wide = 0;
    while (wide < count && tiles[wide].place.width == WIDE) wide++;
    const ac_place here = tiles[0].place, end = tiles[count - 1].place;
    pixel = end.pixel + end.width;
    for (int64_t t = 0; t < count && t < AC_PART_TILES + NARROWER; t++) ac_no_cuts(cuts + t);
    for (int64_t first = 0; first < inputs; first += most_depth) {
      const int64_t depth = inputs - first < most_depth ? inputs - first : most_depth;
      const int64_t last = first + depth == inputs, together = !direct && depth >= FEWEST_TOGETHER && rows >= 4 * MOST_GROUPS;
      /* What comes next, some of it before every wide tile, or in every round of it. */
      const int64_t next = last ? 0 : first + depth, next_depth = inputs - next < most_depth ? inputs - next : most_depth;
      const ac_place there = last ? ac_place_of(p, &outputs, pixel, 1) : here;
      const int64_t fetches = near ? 0 : next_depth < p->columns ? next_depth : p->columns;
      const int64_t calls = wide * (rows / (4 * MOST_GROUPS) - together) * (MOST_GROUPS == 2 ? depth / 4 : 1);
      ac_ahead ahead = {(const element *)source.planes + ac_first_pixel(&source, &there), offsets + next,
                        (pixel - here.pixel) * source.step, 0, fetches, calls > 0 ? (fetches + calls - 1) / calls : 0};
      const ac_part part = {p, &outputs, y, depth, first == 0, last, 4 * inputs, pixel - here.pixel, bounds_of(p), &ahead};
      element *to = panel;
      for (ac_gathered *tile = tiles; tile != tiles + count; tile++) {
        const int64_t width = tile->place.width, in_x = direct && width >= MIDDLE;
        tile->inputs = in_x ? (element *)x + first * p->x_plane + tile->place.pixel : to;
        tile->step = in_x ? p->x_plane : width;
        tile->joined = MOST_GROUPS == 2 && width >= MIDDLE && tile + 1 != tiles + count && tile[1].place.width == 1 &&
                       !(width == WIDE && together);
        to += in_x ? 0 : depth * (width > NARROW ? width : NARROW);
      }
      if (!direct && !together && one_run) gather_run(source.planes, offsets + first, tiles, wide, depth);
      for (int64_t t = 0; t < count; t++) {
        ac_cuts *const own_cuts = cuts + (parts > 1 ? t : 0); /* they serve again for the other parts */
        if (parts == 1) ac_no_cuts(own_cuts);
        if (direct && tiles[t].place.width >= MIDDLE) continue;
        if (t < wide && together)
          gather_first_rows(&part, &source, offsets, tiles + t, own_cuts, first, partial + t * 4 * MOST_GROUPS * WIDE);
        else if (t >= wide || !one_run)
          gather(p, &source, offsets, tiles + t, own_cuts, first, depth);
      }
      for (int64_t row = 0, groups; row < rows; row += 4 * groups) {
        groups = rows - row >= 4 * MOST_GROUPS ? MOST_GROUPS : 1;
        const element *weights = (const element *)p->weights + row * inputs + 4 * first;
        real *own = partial + row * own_sums;
        if (row > 0 || !together) kinds[groups - 1].wide(&part, tiles, wide, row, weights, own);
        own += wide * 4 * groups * WIDE;
        for (const ac_gathered *tile = tiles + wide; tile != tiles + count; own += 4 * groups * tile->place.width, tile++) {
          if (tile != tiles && tile[-1].joined) continue;
          if (tile->place.width == MIDDLE)
            kinds[groups - 1].middle(&part, tile, 1, row, weights, own);
          else if (tile->place.width == NARROW)
            kinds[groups - 1].narrow(&part, tile, 1, row, weights, own);
          else
            kinds[groups - 1].column(&part, tile, 1, row, weights, own);
        }
      }
    }
  }
}
