/* Included by tiles of 4 output channels once per width: one input of LANES * VECTORS positions. */
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
