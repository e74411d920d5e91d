/* Included by s8_block1x4.c once per width of the tile: all rows, one at a time, for LANES * VECTORS positions. */
#define VECTOR AC_JOIN(i32x, LANES)
#define SPLAT_PAIR AC_JOIN(splat_pair_, VECTOR)
#define DOT4 AC_JOIN(dot4_, VECTOR)

#include "s8_store.h"

static void TILE(const ac_problem *p, const ac_view *view, const int8_t *x, void *y, int64_t position) {
  const ac_place place = ac_place_of(p, view, position, LANES * VECTORS);
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  const float low = low_code(p), high = high_code(p);
  x += 4 * position;
  for (int64_t row = 0; row < p->rows; row += 4) {
    /* The outputs of 4 rows are stored together, because they lie together in y. */
    VECTOR sum[4][VECTORS];
    for (int i = 0; i < 4; i++) {
      VECTOR own[VECTORS];
      for (int v = 0; v < VECTORS; v++) own[v] = AC_SPLAT(VECTOR, p->start[row + i]);
      const int32_t *const end = offsets + p->counts[row + i];
      for (; end - offsets >= 2; offsets += 2, weights += 8) {
        const int8_t *first = x + 4 * (int64_t)offsets[0], *second = x + 4 * (int64_t)offsets[1];
        const VECTOR weight = SPLAT_PAIR(weights, 0), other = SPLAT_PAIR(weights, 1);
        for (int v = 0; v < VECTORS; v++) own[v] = DOT4(own[v], AC_LOAD(VECTOR, first + 4 * LANES * v), weight);
        for (int v = 0; v < VECTORS; v++) own[v] = DOT4(own[v], AC_LOAD(VECTOR, second + 4 * LANES * v), other);
      }
      if (offsets != end) {
        const int8_t *from = x + 4 * (int64_t)*offsets++;
        const VECTOR weight = AC_SPLAT(VECTOR, *(const i32_memory *)weights);
        for (int v = 0; v < VECTORS; v++) own[v] = DOT4(own[v], AC_LOAD(VECTOR, from + 4 * LANES * v), weight);
        weights += 4;
      }
      for (int v = 0; v < VECTORS; v++) sum[i][v] = own[v];
    }
    AC_JOIN(TILE, _finish)(p, view, &place, row, sum, low, high, y);
  }
}

#undef VECTOR
#undef SPLAT_PAIR
#undef DOT4
#undef LANES
#undef VECTORS
#undef TILE
