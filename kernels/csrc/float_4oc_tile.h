/* Included by float_4oc.h once per width of the tile: all rows, 4 at a time, for LANES * VECTORS positions. */
#define VECTOR REALS(LANES)

/* Outputs of up to 4 rows where they are no plain runs, or their activation bends. */
static AC_NOINLINE void AC_JOIN(TILE, _store)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                              const VECTOR (*sum)[VECTORS], element *y) {
  for (int64_t i = 0; i < 4 && row + i < p->rows; i++) {
    element *to = y + (row + i) * p->y_plane, tile[LANES * VECTORS];
    element *store = place->whole ? to + place->pixel : tile;
    for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, store + LANES * v, FINISH(LANES)(p, sum[i][v]));
    if (!place->whole) ac_scatter(p, view, place, tile, to);
  }
}

static void TILE(const ac_problem *p, const ac_view *view, const element *x, element *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, LANES * VECTORS);
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    VECTOR sum[4][VECTORS];
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, (real)p->bias[row + i]);
    EACH_BLOCK(row / 4) {
      const element *from = BLOCK_INPUT;
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
      }
    }
    if (place.whole && !bends(p) && row + 4 <= p->rows) {
      AC_UNROLL for (int i = 0; i < 4; i++)
        AC_UNROLL for (int v = 0; v < VECTORS; v++)
          STORE_REALS(LANES, y + (row + i) * p->y_plane + place.pixel + LANES * v, CLIP(LANES)(p, sum[i][v]));
    } else {
      VECTOR done[4][VECTORS]; /* a copy, so that the sums themselves may stay in registers */
      memcpy(done, sum, sizeof done);
      AC_JOIN(TILE, _store)(p, view, &place, row, done, y);
    }
  }
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
