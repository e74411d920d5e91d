/* Included by s8_depthwise.c once per width of the tile: one quad of channels, COUNT vectors of positions. */
static void TILE(const ac_problem *p, const ac_view *view, int64_t row, const int16_t *weights, const int8_t *x, void *y,
                 int64_t at) {
  const ac_place place = ac_place_of(p, view, at, COUNT * NARROW);
  const int64_t windows = p->kernel_height * p->kernel_width;
  INTS sum[COUNT];
  for (int v = 0; v < COUNT; v++)
    for (int n = 0; n < LANES; n++) sum[v][n] = p->start[row + n % 4];
  for (int64_t w = 0; w < windows; w += 2) {
    const int8_t *first = x + 4 * (at + p->offsets[w]);
    const int8_t *second = w + 1 < windows ? x + 4 * (at + p->offsets[w + 1]) : first;
    const SHORTS one = splat_shorts(weights + 4 * w), other = splat_shorts(weights + 4 * w + 4);
    for (int v = 0; v < COUNT; v++) {
      const SHORTS products = load_shorts(first + LANES * v) * one + load_shorts(second + LANES * v) * other;
      sum[v] += __builtin_convertvector(products, INTS);
    }
  }
  const float low = low_code(p), high = high_code(p);
  int32_t sums[COUNT * LANES];
  memcpy(sums, sum, sizeof sums);
  int8_t *to = (int8_t *)y + row * p->y_plane, tile[COUNT * LANES];
  int8_t *store = place.whole ? to + 4 * place.pixel : tile;
  for (int v = 0; v < COUNT; v++) store_codes(p, row, sums + LANES * v, low, high, store + LANES * v);
  if (!place.whole) ac_scatter4(p, view, &place, tile, to);
}

#undef TILE
#undef COUNT
