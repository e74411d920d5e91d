/* Included by s8_block1x4.c once per width of the tile: all rows, one at a time, for LANES * VECTORS pixels. */
#define VECTOR AC_JOIN(i32x, LANES)
#define DOT4 AC_JOIN(dot4_, VECTOR)
#define REQUANTISE AC_JOIN(requantise_, VECTOR)

static void TILE(const ac_s8_problem *p, const int8_t *x, int8_t *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (size_t group = 0; group < p->rows; group += 4) {
    /* The outputs of a group of rows are stored together, because they lie together in y. */
    VECTOR quad[VECTORS] = {{0}};
    for (int i = 0; i < 4; i++) {
      const size_t row = group + (size_t)i, count = (size_t)p->counts[row];
      VECTOR sum[VECTORS];
      for (int v = 0; v < VECTORS; v++) sum[v] = AC_SPLAT(VECTOR, p->bias[row]);
      for (size_t n = 0; n < count; n++) {
        const int8_t *from = x + 4 * (size_t)offsets[n];
        const VECTOR weight = AC_SPLAT(VECTOR, *(const i32_memory *)(weights + 4 * n));
        for (int v = 0; v < VECTORS; v++) sum[v] = DOT4(sum[v], AC_LOAD(VECTOR, from + 4 * LANES * v), weight);
      }
      const VECTOR multiplier = AC_SPLAT(VECTOR, p->multiplier[row]), shift = AC_SPLAT(VECTOR, p->shift[row]);
      for (int v = 0; v < VECTORS; v++) {
        const VECTOR q = REQUANTISE(sum[v], multiplier, shift, p->y_zero_point, p->low, p->high);
        quad[v] |= AC_BYTE(LANES, q, i);
      }
      weights += 4 * count;
      offsets += count;
    }
    for (int v = 0; v < VECTORS; v++) AC_STORE(VECTOR, y + group * p->y_plane + 4 * LANES * v, quad[v]);
  }
}

#undef VECTOR
#undef DOT4
#undef REQUANTISE
#undef LANES
#undef VECTORS
#undef TILE
