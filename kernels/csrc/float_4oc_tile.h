/* Included by float_4oc.h once per width of the tile: all rows, 4 at a time, for LANES * VECTORS positions. */
#define VECTOR REALS(LANES)
#define WIDTH (LANES * VECTORS)

/* sum[row][vector] += input[vector] * weight[row] for one input of 4 rows. */
static inline void AC_JOIN(TILE, _step)(VECTOR (*sum)[VECTORS], const element *from, const element *weights) {
#if !defined(__AVX__)
  const REALS(4) weight = LOAD_REALS(4, weights); /* which FMLA then takes by element */
#endif
  VECTOR input[VECTORS];
  for (int v = 0; v < VECTORS; v++) input[v] = LOAD_REALS(LANES, from + LANES * v);
  for (int i = 0; i < 4; i++) {
#if defined(__AVX__)
    const VECTOR factor = AC_SPLAT(VECTOR, (real)weights[i]); /* a broadcast from memory takes no shuffle */
#else
    const real factor = weight[i];
#endif
    for (int v = 0; v < VECTORS; v++) sum[i][v] += input[v] * factor;
#if VECTORS == 3
    AC_SETTLE(sum[i][0], sum[i][1], sum[i][2]);
#endif
  }
}

/* Outputs of up to 4 rows where they are no plain runs, or their activation bends. */
static AC_NOINLINE void AC_JOIN(TILE, _store)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                              const VECTOR (*sum)[VECTORS], element *y) {
  const ac_bounds bounds = bounds_of(p);
  for (int64_t i = 0; i < 4 && row + i < p->rows; i++) {
    element *to = y + (row + i) * p->y_plane, tile[WIDTH];
    element *store = place->whole ? to + place->pixel : tile;
    for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, store + LANES * v, FINISH(LANES)(p, bounds, sum[i][v]));
    if (!place->whole) ac_scatter(p, view, place, tile, to);
  }
}

static inline void AC_JOIN(TILE, _finish)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                          const VECTOR (*sum)[VECTORS], ac_bounds bounds, element *y) {
  if (place->whole && !bends(p) && row + 4 <= p->rows) {
    AC_UNROLL for (int i = 0; i < 4; i++)
      AC_UNROLL for (int v = 0; v < VECTORS; v++)
        STORE_REALS(LANES, y + (row + i) * p->y_plane + place->pixel + LANES * v, CLIP(LANES)(bounds, sum[i][v]));
  } else {
    VECTOR done[4][VECTORS]; /* a copy, so that the sums themselves may stay in registers */
    memcpy(done, sum, sizeof done);
    AC_JOIN(TILE, _store)(p, view, place, row, done, y);
  }
}

static void TILE(const ac_problem *p, const ac_view *view, const element *x, element *y, int64_t position, element *panel) {
  const ac_place place = ac_place_of(p, view, position, WIDTH);
  const ac_bounds bounds = bounds_of(p);
  x += position;
#if SPARSE
  (void)panel;
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (int64_t row = 0; row < p->rows; row += 4) {
    VECTOR sum[4][VECTORS];
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, (real)p->bias[row + i]);
    for (const int32_t *last = offsets + p->counts[row / 4]; offsets != last; offsets++, weights += 4)
      AC_JOIN(TILE, _step)(sum, x + *offsets, weights);
    AC_JOIN(TILE, _finish)(p, view, &place, row, sum, bounds, y);
  }
#else
  const int64_t inputs = p->kernel_height * p->kernel_width * p->columns;
  VECTOR *partial = (VECTOR *)(panel + DEPTH * WIDE);
  int64_t window = 0, column = 0;
  for (int64_t first = 0; first < inputs; first += DEPTH) {
    const int64_t depth = inputs - first < DEPTH ? inputs - first : DEPTH;
    for (int64_t n = 0; n < depth; n++) {
      memcpy(panel + n * WIDTH, x + p->offsets[window] + column * view->plane, WIDTH * sizeof *x);
      if (++column == p->columns) column = 0, window++;
    }
    for (int64_t row = 0; row < p->rows; row += 4) {
      const element *weights = (const element *)p->weights + row * inputs + 4 * first;
      VECTOR sum[4][VECTORS], *own = partial + row * VECTORS;
      for (int i = 0; i < 4; i++)
        for (int v = 0; v < VECTORS; v++)
          sum[i][v] = first == 0 ? AC_SPLAT(VECTOR, (real)p->bias[row + i]) : own[i * VECTORS + v];
      for (const element *from = panel; from != panel + depth * WIDTH; from += WIDTH, weights += 4)
        AC_JOIN(TILE, _step)(sum, from, weights);
      if (first + depth == inputs)
        AC_JOIN(TILE, _finish)(p, view, &place, row, sum, bounds, y);
      else
        memcpy(own, sum, sizeof sum);
    }
  }
#endif
}

#undef WIDTH
#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
