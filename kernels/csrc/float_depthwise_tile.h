/* Included by float_depthwise.h once per width of the tile: one channel, LANES * VECTORS positions. */
#define VECTOR REALS(LANES)

static void TILE(const ac_problem *p, const ac_view *view, int64_t channel, const element *x, element *y, int64_t at) {
  const ac_place place = ac_place_of(p, view, at, LANES * VECTORS);
  const int64_t windows = p->kernel_height * p->kernel_width;
  const element *weights = (const element *)p->weights + channel * windows;
  VECTOR sum[VECTORS];
  for (int v = 0; v < VECTORS; v++) sum[v] = AC_SPLAT(VECTOR, (real)p->bias[channel]);
  for (int64_t w = 0; w < windows; w++) {
    const element *from = x + at + p->offsets[w];
    for (int v = 0; v < VECTORS; v++) sum[v] += LOAD_REALS(LANES, from + LANES * v) * (real)weights[w];
  }
  const ac_bounds bounds = bounds_of(p);
  element tile[LANES * VECTORS];
  element *store = place.whole ? y + place.pixel : tile;
  for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, store + LANES * v, FINISH(LANES)(p, bounds, sum[v]));
  if (!place.whole) ac_scatter(p, view, &place, tile, y);
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
