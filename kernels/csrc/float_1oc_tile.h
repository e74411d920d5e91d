/* Included by float_1oc.h once per width of the tile: all rows, one at a time, for LANES * VECTORS positions. */
#define VECTOR REALS(LANES)

static void TILE(const ac_problem *p, const ac_view *view, const element *x, element *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, LANES * VECTORS);
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += position;
  for (int64_t row = 0; row < p->rows; row++) {
    VECTOR sum[VECTORS];
    for (int v = 0; v < VECTORS; v++) sum[v] = AC_SPLAT(VECTOR, (real)p->bias[row]);
    for (const int32_t *last = offsets + p->counts[row]; offsets != last; offsets++, weights++) {
      const element *from = x + *offsets;
      for (int v = 0; v < VECTORS; v++) sum[v] += LOAD_REALS(LANES, from + LANES * v) * (real)*weights;
    }
    element *to = y + row * p->y_plane;
    if (place.whole) {
      for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, to + place.pixel + LANES * v, FINISH(LANES)(p, sum[v]));
    } else {
      element tile[LANES * VECTORS];
      for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, tile + LANES * v, FINISH(LANES)(p, sum[v]));
      ac_scatter(p, view, &place, tile, to);
    }
  }
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
