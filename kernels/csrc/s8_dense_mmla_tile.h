/* Included by s8_dense_mmla.h once per width of the tile: 4 rows for 4 * VECTORS pixels of a panel. */
#define LANES 4
#define VECTOR i32x4

#include "s8_store.h"

/* Sums begin as the start or, behind the first inputs, as `own`, and end there unless these are the last. */
static AC_NOINLINE AC_WITH_I8MM void AC_JOIN(TILE, _part)(const ac_part *part, const ac_place *place, int64_t row,
                                                          const int8_t *weights, int32_t *own) {
  const ac_problem *p = part->p;
  const int8_t *from = part->inputs;
  i32x4 sum[2][2 * VECTORS];
  if (part->first) {
    const i32x4 start = AC_LOAD(i32x4, p->start + row);
    for (int v = 0; v < 2 * VECTORS; v++) sum[0][v] = zip_low_i32x4(start, start), sum[1][v] = zip_high_i32x4(start, start);
  } else {
    memcpy(sum, own, sizeof sum);
  }
  for (int64_t left = part->depth; left > 0; left -= 2, weights += 2 * STEP, from += 32 * VECTORS) {
    const i32x4 first = AC_LOAD(i32x4, weights), second = AC_LOAD(i32x4, weights + (left > 1 ? STEP : 0));
    const i32x4 low = zip_low_i32x4(first, second), high = zip_high_i32x4(first, second);
    AC_UNROLL for (int v = 0; v < 2 * VECTORS; v++) {
      const i32x4 input = AC_LOAD(i32x4, from + 16 * v);
      sum[0][v] = mmla_i32x4(sum[0][v], low, input);
      sum[1][v] = mmla_i32x4(sum[1][v], high, input);
    }
  }
  if (!part->last) {
    memcpy(own, sum, sizeof sum);
    return;
  }
  i32x4 rows[4][VECTORS];
  AC_UNROLL for (int v = 0; v < VECTORS; v++)
    AC_UNROLL for (int i = 0; i < 2; i++) {
      rows[2 * i][v] = join_low_i32x4(sum[i][2 * v], sum[i][2 * v + 1]);
      rows[2 * i + 1][v] = join_high_i32x4(sum[i][2 * v], sum[i][2 * v + 1]);
    }
  AC_JOIN(TILE, _finish)(p, part->view, place, row, rows, part->low, part->high, part->y);
}

#undef LANES
#undef VECTOR
#undef VECTORS
#undef TILE
