/* Included by float_4oc_tile.h on AVX-512: 4 * GROUPS rows of a tile in rounds of 4 inputs, with what comes next fetched in between. Many
 * lines at a time would wait for one another, and the products for them.
 */

/* With `joined`, which is constant, also of the single position behind it, while the weights are near. */
static inline __attribute__((always_inline)) void AC_JOIN(TILE, _rows)(const ac_part *part, const ac_gathered *tile, const int joined,
                                                                       int64_t row, const element *weights, real *own) {
  const ac_problem *p = part->p;
  const int64_t first = part->first, last = part->last, depth = part->depth, next_weights = part->next_weights, step = tile->step;
  const int64_t each = last && depth >= 4 ? (4 * GROUPS + depth / 4 - 1) / (depth / 4) : 0; /* rows of y */
  const element *from = tile->inputs;
  VECTOR sum[4 * GROUPS][VECTORS];
  VECTOR single[GROUPS] = {0};
  AC_JOIN(TILE, _begin)(p, first, row, own, sum);
  int64_t n = 0;
  for (int64_t fetched = 0; n + 4 <= depth; n += 4, from += 4 * step) {
    const element *four = weights + 4 * n;
    fetch(part->ahead);
    if (fetched < 4 * GROUPS) AC_JOIN(TILE, _fetch)(part, p, tile, row, fetched, fetched + each);
    fetched += each;
    for (int group = 0; group < GROUPS; group++) AC_FETCH(four + (GROUPS + group) * next_weights, 0);
    AC_UNROLL for (int i = 0; i < 4; i++) AC_JOIN(TILE, _step)(sum, from + i * step, four + 4 * i, next_weights);
    if (joined) column_step(single, GROUPS, tile[1].inputs + n, four, next_weights);
  }
  for (int64_t i = n; i < depth; i++, from += step) AC_JOIN(TILE, _step)(sum, from, weights + 4 * i, next_weights);
  AC_JOIN(TILE, _end)(part, p, part->bounds, last, tile, row, own, sum);
  if (joined) column_end(part, tile + 1, GROUPS, row, weights, own + 4 * GROUPS * WIDTH, single, n);
}

static AC_NOINLINE void TILE(const ac_part *part, const ac_gathered *tile, int64_t count, int64_t row, const element *weights,
                             real *own) {
  for (const ac_gathered *behind = tile + count; tile != behind; tile++, own += 4 * GROUPS * WIDTH) {
    if (tile->joined)
      AC_JOIN(TILE, _rows)(part, tile, 1, row, weights, own);
    else
      AC_JOIN(TILE, _rows)(part, tile, 0, row, weights, own);
  }
}
