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
    AC_JOIN(TILE, _steps)(sum, inputs, inputs + depth * WIDTH, weights, 4 * columns);
    memcpy(sums, sum, sizeof sum);
  }
}

#undef WIDTH
#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
