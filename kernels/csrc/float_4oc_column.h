/* Included by float_4oc.h: 4 rows of one position, or 8, which has nothing to be lanes. The lanes are the 4 rows, for 4 inputs on AVX-512, else
 * for PAIR inputs. An input is gathered COPIES times.
 */
/* What is done with the products of 4 rows of a part: they are added to what was there, and kept or made outputs. */
static inline __attribute__((always_inline)) void column_store(const ac_part *part, const ac_gathered *tile, int64_t row, real *own,
                                                               REALS(4) total) {
  const ac_problem *p = part->p;
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

#if MOST_GROUPS == 2
#define COPIES 1

static void gather_column(element *to, const element *from, const int32_t *offsets, int64_t rows, const ac_cut *cut) {
  ac_gather_rows((void *)to, (const void *)from, offsets, rows, 1, 0, cut);
}

/* The products of 4 inputs, which are spread once for all rows. */
static inline __attribute__((always_inline)) void column_step(REALS(16) *sum, const int groups, const element *from, const element *weights,
                                                              int64_t next_weights) {
  const REALS(4) four = LOAD_REALS(4, from);
  const REALS(16) input = __builtin_shufflevector(four, four, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  AC_UNROLL for (int group = 0; group < groups; group++) sum[group] += LOAD_REALS(16, weights + group * next_weights) * input;
}

/* What is left from input n on, and the outputs. */
static inline __attribute__((always_inline)) void column_end(const ac_part *part, const ac_gathered *tile, const int groups, int64_t row,
                                                             const element *weights, real *own, const REALS(16) *sum, int64_t n) {
  AC_UNROLL for (int group = 0; group < groups; group++, row += 4, own += 4) {
    REALS(4) total = AC_QUARTERS(sum[group]);
    for (int64_t i = n; i < part->depth; i++)
      total += LOAD_REALS(4, weights + group * part->next_weights + 4 * i) * (real)tile->inputs[i];
    column_store(part, tile, row, own, total);
  }
}

/* 4 * groups rows. */
static inline __attribute__((always_inline)) void column_rows(const ac_part *part, const ac_gathered *tile, const int groups, int64_t row,
                                                              const element *weights, real *own) {
  REALS(16) sum[2] = {0}, odd[2] = {0};
  int64_t n = 0;
  for (; n + 8 <= part->depth; n += 8) {
    column_step(sum, groups, tile->inputs + n, weights + 4 * n, part->next_weights);
    column_step(odd, groups, tile->inputs + n + 4, weights + 4 * n + 16, part->next_weights);
  }
  AC_UNROLL for (int group = 0; group < groups; group++) sum[group] += odd[group];
  column_end(part, tile, groups, row, weights, own, sum, n);
}

static AC_NOINLINE void tile_column(const ac_part *part, const ac_gathered *tile, int64_t count, int64_t row, const element *weights,
                                    real *own) {
  (void)count;
  column_rows(part, tile, 1, row, weights, own);
}

static AC_NOINLINE void tile_column_pair(const ac_part *part, const ac_gathered *tile, int64_t count, int64_t row, const element *weights,
                                         real *own) {
  (void)count;
  column_rows(part, tile, 2, row, weights, own);
}
#else
#define COPIES 4

/* Inputs whose weights are one vector, where lanes are rows. */
#if REAL_LANES >= 8
#define PAIR 2
#define PAIR_LANES 8
#else
#define PAIR 1
#define PAIR_LANES 4
#endif

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

static AC_NOINLINE void tile_column(const ac_part *part, const ac_gathered *tile, int64_t count, int64_t row, const element *weights,
                                    real *own) {
  (void)count;
  const element *from = tile->inputs;
  const int64_t depth = part->depth;
  VECTOR sum[CHAINS] = {0};
  int64_t n = 0;
  for (; n + PAIR * CHAINS <= depth; n += PAIR * CHAINS, weights += 4 * PAIR * CHAINS) {
    AC_FETCH(weights + part->next_weights, 0);
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
  column_store(part, tile, row, own, total);
}

#undef VECTOR
#undef CHAINS
#endif
