/* Included by float_4oc_dense.h: 4 rows of a tile of COLUMNS positions, too few to be lanes. The lanes are the 4 rows, for PAIR inputs.
 *
 * What is gathered: for every PAIR inputs, for every position, each input 4 times; at last an input without another by itself.
 */
#define VECTOR REALS(PAIR_LANES)

static inline void COLUMN(gather)(element *to, int64_t n, int64_t depth, const element *x) {
  const int64_t paired = depth / PAIR * PAIR, step = n < paired ? 4 * PAIR : 4;
  to += n / PAIR * PAIR * COLUMNS * 4 + n % PAIR * 4;
  for (int c = 0; c < COLUMNS; c++)
    for (int i = 0; i < 4; i++) to[step * c + i] = x[c];
}

static AC_NOINLINE void COLUMN(tile)(const ac_part *part, const ac_gathered *tile, int64_t row, const element *weights, real *own) {
  const ac_problem *p = part->p;
  const element *from = tile->inputs;
  const int64_t depth = part->depth;
  VECTOR sum[COLUMNS][CHAINS] = {0};
  int64_t n = 0;
  for (; n + PAIR * CHAINS <= depth; n += PAIR * CHAINS, weights += 4 * PAIR * CHAINS) {
    FETCH(weights + part->next_weights, 0);
    for (int chain = 0; chain < CHAINS; chain++) {
      const VECTOR weight = LOAD_REALS(PAIR_LANES, weights + PAIR_LANES * chain);
      for (int c = 0; c < COLUMNS; c++, from += PAIR_LANES) sum[c][chain] += weight * LOAD_REALS(PAIR_LANES, from);
    }
  }
  for (; n + PAIR <= depth; n += PAIR, weights += PAIR_LANES) {
    const VECTOR weight = LOAD_REALS(PAIR_LANES, weights);
    for (int c = 0; c < COLUMNS; c++, from += PAIR_LANES) sum[c][0] += weight * LOAD_REALS(PAIR_LANES, from);
  }
  REALS(4) total[COLUMNS];
  for (int c = 0; c < COLUMNS; c++) {
    for (int chain = 1; chain < CHAINS; chain++) sum[c][0] += sum[c][chain];
#if PAIR == 2
    total[c] = __builtin_shufflevector(sum[c][0], sum[c][0], 0, 1, 2, 3) + __builtin_shufflevector(sum[c][0], sum[c][0], 4, 5, 6, 7);
    if (n < depth) total[c] += LOAD_REALS(4, weights) * LOAD_REALS(4, from + 4 * c);
#else
    total[c] = sum[c][0];
#endif
    if (part->first)
      total[c] += __builtin_convertvector(AC_LOAD(f32x4, p->bias + row), REALS(4));
    else
      total[c] += AC_LOAD(REALS(4), own + 4 * c);
    if (!part->last) AC_STORE(REALS(4), own + 4 * c, total[c]);
  }
  if (!part->last) return;
#if COLUMNS == 1
  const REALS(4) done = FINISH(4)(p, part->bounds, total[0]);
  for (int i = 0; i < 4 && row + i < p->rows && tile->place.whole; i++)
    part->y[(row + i) * p->y_plane + tile->place.pixel] = (element)done[i];
#else
  REALS(4) turned[4][1];
  for (int i = 0; i < 4; i++)
    for (int c = 0; c < 4; c++) turned[i][0][c] = total[c][i];
  tile_narrow_finish(p, part->view, &tile->place, row, turned, part->bounds, part->y);
#endif
}

#undef VECTOR
#undef COLUMNS
#undef COLUMN
#undef CHAINS
