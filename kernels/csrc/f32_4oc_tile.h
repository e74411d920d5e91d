/* Included by f32_4oc.h once per width of the tile: all rows, 4 at a time, for LANES * VECTORS pixels. */
#define VECTOR AC_JOIN(f32x, LANES)
#define MASK AC_JOIN(i32x, LANES)

static void TILE(const ac_f32_problem *p, const float *x, float *y) {
  const float *weights = p->weights;
  const int32_t *offsets = p->offsets;
  (void)offsets;
  for (size_t row = 0; row < p->rows; row += 4) {
    const size_t count = COUNT(row / 4);
    VECTOR sum[4][VECTORS];
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, p->bias[row + i]);
    for (size_t n = 0; n < count; n++) {
      const float *from = x + OFFSET(n);
      const f32x4 weight = AC_LOAD(f32x4, weights + 4 * n);
      VECTOR input[VECTORS];
      for (int v = 0; v < VECTORS; v++) input[v] = AC_LOAD(VECTOR, from + LANES * v);
      for (int i = 0; i < 4; i++)
        for (int v = 0; v < VECTORS; v++) sum[i][v] += input[v] * weight[i];
    }
    /* Read here and not above, where they would take two registers from the sums. */
    const VECTOR low = AC_SPLAT(VECTOR, p->low), high = AC_SPLAT(VECTOR, p->high);
    for (int i = 0; i < 4; i++) {
      if (row + i >= p->rows) break;
      for (int v = 0; v < VECTORS; v++) {
        const VECTOR floored = AC_SELECT(VECTOR, MASK, sum[i][v] < low, low, sum[i][v]);
        AC_STORE(VECTOR, y + (row + i) * p->y_plane + LANES * v,
                 AC_SELECT(VECTOR, MASK, floored > high, high, floored));
      }
    }
    weights += 4 * count;
    SKIP(offsets, count);
  }
}

#undef VECTOR
#undef MASK
#undef LANES
#undef VECTORS
#undef TILE
