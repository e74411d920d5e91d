/* Included by s8_4oc_tile.h for the wide tiles of a sparse kernel where AC_I8MM is set: kept blocks by twos, whose quads are put side by
 * side for SMMLA. 10 permutations for its 16 products, which do the work of 32 SDOTs. A vector of sums is 2 rows x 2 pixels. */
static inline __attribute__((always_inline)) AC_WITH_I8MM void mmla_blocks(i32x4 (*sum)[2 * VECTORS], i32x4 first, i32x4 second,
                                                                           const int8_t *from, const int8_t *other) {
  const i32x4 low = zip_low_i32x4(first, second), high = zip_high_i32x4(first, second);
  AC_UNROLL for (int v = 0; v < VECTORS; v++) {
    const i32x4 a = AC_LOAD(i32x4, from + 16 * v), b = AC_LOAD(i32x4, other + 16 * v);
    const i32x4 inputs[2] = {zip_low_i32x4(a, b), zip_high_i32x4(a, b)};
    AC_UNROLL for (int i = 0; i < 2; i++) {
      sum[0][2 * v + i] = mmla_i32x4(sum[0][2 * v + i], low, inputs[i]);
      sum[1][2 * v + i] = mmla_i32x4(sum[1][2 * v + i], high, inputs[i]);
    }
  }
}

/* All rows of a tile whose first position x points at. */
static AC_WITH_I8MM void by_mmla(const ac_problem *p, const ac_view *view, const ac_place *place, const int8_t *x, float low, float high,
                                 void *y) {
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  for (int64_t row = 0; row < p->rows; row += 4) {
    const i32x4 start = AC_LOAD(i32x4, p->start + row);
    i32x4 sum[2][2 * VECTORS];
    for (int v = 0; v < 2 * VECTORS; v++) sum[0][v] = zip_low_i32x4(start, start), sum[1][v] = zip_high_i32x4(start, start);
    const int32_t *const last = offsets + p->counts[row / 4];
    for (; last - offsets > 1; offsets += 2, weights += 2 * STEP)
      mmla_blocks(sum, AC_LOAD(i32x4, weights), AC_LOAD(i32x4, weights + STEP), x + 4 * (int64_t)offsets[0], x + 4 * (int64_t)offsets[1]);
    if (offsets != last) {
      const int8_t *from = x + 4 * (int64_t)*offsets;
      mmla_blocks(sum, AC_LOAD(i32x4, weights), (i32x4){0}, from, from);
      offsets++, weights += STEP;
    }
    i32x4 rows[4][VECTORS];
    AC_UNROLL for (int v = 0; v < VECTORS; v++)
      AC_UNROLL for (int i = 0; i < 2; i++) {
        rows[2 * i][v] = join_low_i32x4(sum[i][2 * v], sum[i][2 * v + 1]);
        rows[2 * i + 1][v] = join_high_i32x4(sum[i][2 * v], sum[i][2 * v + 1]);
      }
    AC_JOIN(TILE, _finish)(p, view, place, row, rows, low, high, y);
  }
}
