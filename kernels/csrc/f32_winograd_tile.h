/* Included by f32_winograd.c once per width of a block of tiles: the products of one position.
 *
 * Sums of 4 rows, 16 * 4 * WIDTH elements from those of the next 4, are begun if `first`, else added to.
 */
#include "float_4oc_step.h"

static AC_NOINLINE void TILE(const float *inputs, int64_t depth, const float *weights, int64_t columns, int64_t quads, int64_t first,
                             float *sums) {
  for (; quads > 0; quads--, weights += 4 * columns, sums += 16 * 4 * WIDTH) {
    VECTOR sum[4][VECTORS];
    if (first)
      memset(sum, 0, sizeof sum);
    else
      memcpy(sum, sums, sizeof sum);
    const float *from = inputs, *weight = weights, *const end = from + depth * WIDTH;
#if defined(__AVX__)
#if VECTORS == 1
    VECTOR odd[4][VECTORS] = {0}; /* 4 sums are too few for the latency of the multiply-add */
#else
    VECTOR(*const odd)[VECTORS] = sum;
#endif
    for (; end - from >= 4 * WIDTH; from += 4 * WIDTH, weight += 16) {
      FETCH(weight + 4 * columns, 0);
      AC_JOIN(TILE, _step)(sum, from, weight);
      AC_JOIN(TILE, _step)(odd, from + WIDTH, weight + 4);
      AC_JOIN(TILE, _step)(sum, from + 2 * WIDTH, weight + 8);
      AC_JOIN(TILE, _step)(odd, from + 3 * WIDTH, weight + 12);
    }
#if VECTORS == 1
    for (int i = 0; i < 4; i++) sum[i][0] += odd[i][0];
#endif
#endif
    for (; from != end; from += WIDTH, weight += 4) AC_JOIN(TILE, _step)(sum, from, weight);
    memcpy(sums, sum, sizeof sum);
  }
}

#undef WIDTH
#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
