/* Included by s8_4oc.h once per width of the tile: all rows, 4 at a time, for LANES * VECTORS pixels. */
#define VECTOR AC_JOIN(i32x, LANES)
#define SPLAT_QUAD AC_JOIN(splat_quad_, VECTOR)
#define DOT4 AC_JOIN(dot4_, VECTOR)
#define REQUANTISE AC_JOIN(requantise_, VECTOR)

static void TILE(const ac_s8_problem *p, const int8_t *x, int8_t *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  (void)offsets;
  for (size_t row = 0; row < p->rows; row += 4) {
    const size_t count = COUNT(row / 4);
    VECTOR sum[4][VECTORS];
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, p->bias[row + i]);
    for (size_t n = 0; n < count; n++) {
      const int8_t *from = x + 4 * OFFSET(n);
      VECTOR input[VECTORS];
      for (int v = 0; v < VECTORS; v++) input[v] = AC_LOAD(VECTOR, from + 4 * LANES * v);
      for (int i = 0; i < 4; i++) {
        const VECTOR weight = SPLAT_QUAD(weights + 16 * n, i);
        for (int v = 0; v < VECTORS; v++) sum[i][v] = DOT4(sum[i][v], input[v], weight);
      }
    }
    VECTOR quad[VECTORS] = {{0}};
    for (int i = 0; i < 4; i++) {
      const VECTOR multiplier = AC_SPLAT(VECTOR, p->multiplier[row + i]), shift = AC_SPLAT(VECTOR, p->shift[row + i]);
      for (int v = 0; v < VECTORS; v++) {
        const VECTOR q = REQUANTISE(sum[i][v], multiplier, shift, p->y_zero_point, p->low, p->high);
        quad[v] |= AC_BYTE(LANES, q, i);
      }
    }
    for (int v = 0; v < VECTORS; v++) AC_STORE(VECTOR, y + row * p->y_plane + 4 * LANES * v, quad[v]);
    weights += 16 * count;
    SKIP(offsets, count);
  }
}

#undef VECTOR
#undef SPLAT_QUAD
#undef DOT4
#undef REQUANTISE
#undef LANES
#undef VECTORS
#undef TILE
