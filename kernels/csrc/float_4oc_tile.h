/* Included by float_4oc.h once per width of the tile: all rows, 4 at a time, for LANES * VECTORS positions. */
#define VECTOR REALS(LANES)

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
    for (int i = 0; i < 4 && row + i < p->rows; i++) {
      element *to = y + (row + i) * p->y_plane;
      if (place.whole) {
        for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, to + place.pixel + LANES * v, FINISH(LANES)(p, sum[i][v]));
      } else {
        element tile[LANES * VECTORS];
        for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, tile + LANES * v, FINISH(LANES)(p, sum[i][v]));
        ac_scatter(p, view, &place, tile, to);
      }
    }
  }
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
