/* Included by f32_unstructured.c once per width of the tile: all rows, one at a time, for LANES * VECTORS pixels. */
#define VECTOR AC_JOIN(f32x, LANES)
#define MASK AC_JOIN(i32x, LANES)

static void TILE(const ac_f32_problem *p, const float *x, float *y) {
  const float *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (size_t row = 0; row < p->rows; row++) {
    const size_t count = (size_t)p->counts[row];
    VECTOR sum[VECTORS];
    for (int v = 0; v < VECTORS; v++) sum[v] = AC_SPLAT(VECTOR, p->bias[row]);
    for (size_t n = 0; n < count; n++) {
      const float *from = x + (size_t)offsets[n];
      for (int v = 0; v < VECTORS; v++) sum[v] += AC_LOAD(VECTOR, from + LANES * v) * weights[n];
    }
    /* Read here and not above, where they would take two registers from the sums. */
    const VECTOR low = AC_SPLAT(VECTOR, p->low), high = AC_SPLAT(VECTOR, p->high);
    for (int v = 0; v < VECTORS; v++) {
      const VECTOR floored = AC_SELECT(VECTOR, MASK, sum[v] < low, low, sum[v]);
      AC_STORE(VECTOR, y + row * p->y_plane + LANES * v, AC_SELECT(VECTOR, MASK, floored > high, high, floored));
    }
    weights += count;
    offsets += count;
  }
}

#undef VECTOR
#undef MASK
#undef LANES
#undef VECTORS
#undef TILE
