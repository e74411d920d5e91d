/* Included by float_pool.h once per width of the tile: averages of one channel, LANES * VECTORS positions. */
#define VECTOR REALS(LANES)

static inline void TILE(const ac_problem *p, const ac_view *view, const float *factors, const element *x, element *y,
                        int64_t at) {
  const ac_place place = ac_place_of(p, view, at, LANES * VECTORS);
  VECTOR result[VECTORS];
  for (int v = 0; v < VECTORS; v++) result[v] = LOAD_REALS(LANES, x + at + p->offsets[0] + LANES * v);
  for (int64_t w = 1; w < p->kernel_height * p->kernel_width; w++)
    for (int v = 0; v < VECTORS; v++) result[v] += LOAD_REALS(LANES, x + at + p->offsets[w] + LANES * v);
  const ac_bounds bounds = bounds_of(p);
  element tile[LANES * VECTORS];
  element *store = place.whole ? y + place.pixel : tile;
  for (int v = 0; v < VECTORS; v++) {
    result[v] *= __builtin_convertvector(AC_LOAD(AC_JOIN(f32x, LANES), factors + at + LANES * v), VECTOR);
    STORE_REALS(LANES, store + LANES * v, FINISH(LANES)(p, bounds, result[v]));
  }
  if (!place.whole) ac_scatter(p, view, &place, tile, y);
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
