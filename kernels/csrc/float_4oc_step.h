/* Included by tiles of 4 output channels once per width: the products of LANES * VECTORS positions. */
#ifndef FETCH
/* Bring a line into L1. Only where its effect has been measured. */
#if defined(__AVX__)
#define FETCH(p, write) __builtin_prefetch(p, write)
#else
#define FETCH(p, write) ((void)0)
#endif
#endif

#define VECTOR REALS(LANES)
#define WIDTH (LANES * VECTORS)

/* sum[row][vector] += input[vector] * weight[row] for one input of 4 rows. */
static inline void AC_JOIN(TILE, _step)(VECTOR (*sum)[VECTORS], const element *from, const element *weights) {
#if !defined(__AVX__)
  const REALS(4) weight = LOAD_REALS(4, weights); /* which FMLA then takes by element */
#endif
  VECTOR input[VECTORS];
  for (int v = 0; v < VECTORS; v++) input[v] = LOAD_REALS(LANES, from + LANES * v);
  for (int i = 0; i < 4; i++) {
#if defined(__AVX__)
    const VECTOR factor = AC_SPLAT(VECTOR, (real)weights[i]); /* a broadcast from memory takes no shuffle */
#else
    const real factor = weight[i];
#endif
    for (int v = 0; v < VECTORS; v++) sum[i][v] += input[v] * factor;
#if VECTORS == 3
    AC_SETTLE(sum[i][0], sum[i][1], sum[i][2]);
#endif
  }
}

/* The same for all inputs from `from` to `end`. On AVX a line of the weights `next_weights` further on comes nearer in every fourth step. What
 * is left behind whole rounds is for the last loop. */
static inline __attribute__((always_inline)) void AC_JOIN(TILE, _steps)(VECTOR (*sum)[VECTORS], const element *from, const element *end,
                                                                        const element *weights, int64_t next_weights) {
#if defined(__AVX__) && LANES == 4
  /* Two inputs fill a register, as do their weights. */
  REALS(8) pair[2][4] = {0};
  for (; end - from >= 4 * WIDTH; from += 4 * WIDTH, weights += 16) {
    FETCH(weights + next_weights, 0);
    for (int half = 0; half < 2; half++) {
      const REALS(8) input = LOAD_REALS(8, from + 8 * half), weight = LOAD_REALS(8, weights + 8 * half);
      pair[half][0] += input * __builtin_shufflevector(weight, weight, 0, 0, 0, 0, 4, 4, 4, 4);
      pair[half][1] += input * __builtin_shufflevector(weight, weight, 1, 1, 1, 1, 5, 5, 5, 5);
      pair[half][2] += input * __builtin_shufflevector(weight, weight, 2, 2, 2, 2, 6, 6, 6, 6);
      pair[half][3] += input * __builtin_shufflevector(weight, weight, 3, 3, 3, 3, 7, 7, 7, 7);
    }
  }
  for (int i = 0; i < 4; i++) {
    pair[0][i] += pair[1][i];
    sum[i][0] += __builtin_shufflevector(pair[0][i], pair[0][i], 0, 1, 2, 3) + __builtin_shufflevector(pair[0][i], pair[0][i], 4, 5, 6, 7);
  }
#elif defined(__AVX__) || VECTORS == 1
#if VECTORS == 1
  VECTOR odd[4][VECTORS] = {0}; /* 4 sums are too few for the latency of the multiply-add */
#else
  VECTOR(*const odd)[VECTORS] = sum;
#endif
  for (; end - from >= 4 * WIDTH; from += 4 * WIDTH, weights += 16) {
    FETCH(weights + next_weights, 0);
    AC_JOIN(TILE, _step)(sum, from, weights);
    AC_JOIN(TILE, _step)(odd, from + WIDTH, weights + 4);
    AC_JOIN(TILE, _step)(sum, from + 2 * WIDTH, weights + 8);
    AC_JOIN(TILE, _step)(odd, from + 3 * WIDTH, weights + 12);
  }
#if VECTORS == 1
  for (int i = 0; i < 4; i++) sum[i][0] += odd[i][0];
#endif
#endif
  (void)next_weights;
  for (; from != end; from += WIDTH, weights += 4) AC_JOIN(TILE, _step)(sum, from, weights);
}
