/* Included by tiles of 4 output channels once per width: the products of LANES * VECTORS positions, of GROUPS times 4 rows. */
#ifndef GROUPS
#define GROUPS 1
#endif

#define VECTOR REALS(LANES)
#define WIDTH (LANES * VECTORS)

/* sum[row][vector] += input[vector] * weight[row] for one input; the weights of 4 rows are `next_weights` from those of the 4 before. */
static inline __attribute__((always_inline)) void AC_JOIN(TILE, _step)(VECTOR (*sum)[VECTORS], const element *from,
                                                                       const element *weights, int64_t next_weights) {
#if !defined(__AVX__)
  const REALS(4) weight = LOAD_REALS(4, weights); /* which FMLA then takes by element */
#endif
  VECTOR input[VECTORS];
  AC_UNROLL for (int v = 0; v < VECTORS; v++) input[v] = LOAD_REALS(LANES, from + LANES * v);
  AC_UNROLL for (int i = 0; i < 4 * GROUPS; i++) {
#if defined(__AVX__)
    const VECTOR factor = AC_SPLAT(VECTOR, (real)weights[i / 4 * next_weights + i % 4]); /* a broadcast from memory takes no shuffle */
#else
    const real factor = weight[i];
#endif
    AC_UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] += input[v] * factor;
#if VECTORS == 3 && (LANES == 8 || defined(__AVX512F__))
    AC_SETTLE(sum[i][0], sum[i][1], sum[i][2]);
#endif
  }
  (void)next_weights;
}

/* The same for all inputs from `from` to `end`. On AVX a line of the weights of the next rows comes nearer in every fourth step. What
 * is left behind whole rounds is for the last loop. */
static inline __attribute__((always_inline)) void AC_JOIN(TILE, _steps)(VECTOR (*sum)[VECTORS], const element *from, const element *end,
                                                                        const element *weights, int64_t next_weights) {
#if GROUPS == 2 && LANES == 4
  /* The lanes are the 4 rows of 4 inputs: weights are taken as they are, and inputs are spread once for all rows. */
  REALS(16) total[GROUPS][4] = {0};
  for (; end - from >= 4 * WIDTH; from += 4 * WIDTH, weights += 16) {
    REALS(16) weight[GROUPS];
    const REALS(16) input = LOAD_REALS(16, from);
    AC_UNROLL for (int group = 0; group < GROUPS; group++) {
      AC_FETCH(weights + (GROUPS + group) * next_weights, 0);
      weight[group] = LOAD_REALS(16, weights + group * next_weights);
    }
    AC_UNROLL for (int group = 0; group < GROUPS; group++) {
      total[group][0] += weight[group] * __builtin_shufflevector(input, input, 0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
      total[group][1] += weight[group] * __builtin_shufflevector(input, input, 1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9, 13, 13, 13, 13);
      total[group][2] += weight[group] * __builtin_shufflevector(input, input, 2, 2, 2, 2, 6, 6, 6, 6, 10, 10, 10, 10, 14, 14, 14, 14);
      total[group][3] += weight[group] * __builtin_shufflevector(input, input, 3, 3, 3, 3, 7, 7, 7, 7, 11, 11, 11, 11, 15, 15, 15, 15);
    }
  }
  AC_UNROLL for (int group = 0; group < GROUPS; group++) {
    REALS(4) position[4];
    AC_UNROLL for (int i = 0; i < 4; i++) position[i] = AC_QUARTERS(total[group][i]);
    AC_UNROLL for (int i = 0; i < 4; i++)
      sum[4 * group + i][0] += (REALS(4)){position[0][i], position[1][i], position[2][i], position[3][i]};
  }
#elif defined(__AVX__) && LANES == 4
  /* Two inputs fill a register, as do their weights. */
  REALS(8) pair[2][4] = {0};
  for (; end - from >= 4 * WIDTH; from += 4 * WIDTH, weights += 16) {
    AC_FETCH(weights + next_weights, 0);
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
    AC_FETCH(weights + next_weights, 0);
    AC_JOIN(TILE, _step)(sum, from, weights, next_weights);
    AC_JOIN(TILE, _step)(odd, from + WIDTH, weights + 4, next_weights);
    AC_JOIN(TILE, _step)(sum, from + 2 * WIDTH, weights + 8, next_weights);
    AC_JOIN(TILE, _step)(odd, from + 3 * WIDTH, weights + 12, next_weights);
  }
#if VECTORS == 1
  for (int i = 0; i < 4; i++) sum[i][0] += odd[i][0];
#endif
#endif
  for (; from != end; from += WIDTH, weights += 4) AC_JOIN(TILE, _step)(sum, from, weights, next_weights);
}
