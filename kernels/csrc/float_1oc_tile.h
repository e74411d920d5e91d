/* Included by float_1oc.h once per width of the tile: all rows, one at a time, for LANES * VECTORS positions. */
#define VECTOR REALS(LANES)

/* Outputs where they are no plain run, or their activation bends. */
static AC_NOINLINE void AC_JOIN(TILE, _store)(const ac_problem *p, const ac_view *view, const ac_place *place,
                                              const VECTOR *sum, element *to) {
  const ac_bounds bounds = bounds_of(p);
  element tile[LANES * VECTORS];
  element *store = place->whole ? to + place->pixel : tile;
  for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, store + LANES * v, FINISH(LANES)(p, bounds, sum[v]));
  if (!place->whole) ac_scatter(p, view, place, tile, to);
}

/* All rows, one at a time, of one tile. */
static void TILE(const ac_problem *p, const ac_view *view, const ac_spot *spot, int64_t count, const element *x, element *y) {
  (void)count;
  const ac_place place = spot->place;
  const ac_bounds bounds = bounds_of(p);
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets;
  x += spot->position;
  for (int64_t row = 0; row < p->rows; row++) {
    const int32_t *const last = offsets + p->counts[row];
    VECTOR sum[VECTORS];
    for (int v = 0; v < VECTORS; v++) sum[v] = AC_SPLAT(VECTOR, (real)p->bias[row]);
#if defined(__AVX__) && VECTORS < 8
    VECTOR odd[VECTORS] = {0}; /* so few sums do not hide the latency of the multiply-add */
    for (; last - offsets >= 2; offsets += 2, weights += 2)
      for (int v = 0; v < VECTORS; v++) {
        sum[v] += LOAD_REALS(LANES, x + offsets[0] + LANES * v) * (real)weights[0];
        odd[v] += LOAD_REALS(LANES, x + offsets[1] + LANES * v) * (real)weights[1];
      }
    for (int v = 0; v < VECTORS; v++) sum[v] += odd[v];
#endif
    AC_PAIRS for (; offsets != last; offsets++, weights++) {
      VECTOR input[VECTORS];
      for (int v = 0; v < VECTORS; v++) input[v] = LOAD_REALS(LANES, x + *offsets + LANES * v);
#if VECTORS == 8
      AC_LOADED(input[0], input[1], input[2], input[3]);
      AC_LOADED(input[4], input[5], input[6], input[7]);
#endif
      for (int v = 0; v < VECTORS; v++) sum[v] += input[v] * (real)*weights;
    }
    element *to = y + row * p->y_plane;
    if (place.whole && !bends(p)) {
      AC_UNROLL for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, to + place.pixel + LANES * v, CLIP(LANES)(bounds, sum[v]));
    } else {
      VECTOR done[VECTORS]; /* a copy, so that the sums themselves may stay in registers */
      memcpy(done, sum, sizeof done);
      AC_JOIN(TILE, _store)(p, view, &place, done, to);
    }
  }
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
