/* Included by float_4oc_dense.h: 4 rows of one position, which has nothing to be lanes. The lanes are the 4 rows, for PAIR inputs, and every
 * input is gathered 4 times.
 */
#define VECTOR REALS(PAIR_LANES)
#define CHAINS 4

/* `rows` inputs: once at the end of where they go, then each in its place, which none of those to come is in. */
static void gather_column(element *to, const element *from, const int32_t *offsets, int64_t rows, const ac_cut *cut) {
  const element *once = to + 3 * rows;
  ac_gather_rows((void *)(to + 3 * rows), (const void *)from, offsets, rows, 1, 0, cut);
  for (int64_t n = 0; n < rows; n++, to += 4) {
    const element x = once[n];
    for (int i = 0; i < 4; i++) to[i] = x;
  }
}

static AC_NOINLINE void tile_column(const ac_part *part, const ac_gathered *tile, int64_t row, const element *weights, real *own) {
  const ac_problem *p = part->p;
  const element *from = tile->inputs;
  const int64_t depth = part->depth;
  VECTOR sum[CHAINS] = {0};
  int64_t n = 0;
  for (; n + PAIR * CHAINS <= depth; n += PAIR * CHAINS, weights += 4 * PAIR * CHAINS) {
    FETCH(weights + part->next_weights, 0);
    for (int chain = 0; chain < CHAINS; chain++, from += PAIR_LANES)
      sum[chain] += LOAD_REALS(PAIR_LANES, weights + PAIR_LANES * chain) * LOAD_REALS(PAIR_LANES, from);
  }
  for (; n + PAIR <= depth; n += PAIR, weights += PAIR_LANES, from += PAIR_LANES)
    sum[0] += LOAD_REALS(PAIR_LANES, weights) * LOAD_REALS(PAIR_LANES, from);
  for (int chain = 1; chain < CHAINS; chain++) sum[0] += sum[chain];
#if PAIR == 2
  REALS(4) total = __builtin_shufflevector(sum[0], sum[0], 0, 1, 2, 3) + __builtin_shufflevector(sum[0], sum[0], 4, 5, 6, 7);
  if (n < depth) total += LOAD_REALS(4, weights) * LOAD_REALS(4, from);
#else
  REALS(4) total = sum[0];
#endif
  if (part->first)
    total += __builtin_convertvector(AC_LOAD(f32x4, p->bias + row), REALS(4));
  else
    total += AC_LOAD(REALS(4), own);
  if (!part->last) {
    AC_STORE(REALS(4), own, total);
    return;
  }
  total = FINISH(4)(p, part->bounds, total);
  for (int i = 0; i < 4 && row + i < p->rows && tile->place.whole; i++)
    part->y[(row + i) * p->y_plane + tile->place.pixel] = (element)total[i];
}

#undef VECTOR
#undef CHAINS
