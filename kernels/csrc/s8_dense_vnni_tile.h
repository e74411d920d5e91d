/* Included by s8_dense_vnni.h once per width of the tile: 8 or 4 rows for LANES * VECTORS pixels of a panel. */
#define VECTOR AC_JOIN(i32x, LANES)

#include "s8_store.h"

static inline __attribute__((always_inline)) void AC_JOIN(TILE, _part)(const ac_vnni *part, const int groups, int64_t row,
                                                                       const int8_t *weights, const ac_panel_tile *tile) {
  const int8_t *from = tile->inputs, *const end = weights + part->depth * QUAD_BYTES;
  int32_t *own = tile->sums + row * LANES * VECTORS;
  VECTOR sum[8][VECTORS];
  AC_UNROLL for (int i = 0; i < 4 * groups; i++)
    AC_UNROLL for (int v = 0; v < VECTORS; v++) {
      const VECTOR begin = AC_SPLAT(VECTOR, part->begin[row + i]);
      sum[i][v] = part->first ? begin : begin + AC_LOAD(VECTOR, own + LANES * (VECTORS * i + v));
    }
  const int64_t next = part->next_weights, step = tile->step;
  AC_ALIGNED_LOOP for (; weights != end; from += step, weights += QUAD_BYTES) {
    VECTOR input[VECTORS];
    AC_UNROLL for (int v = 0; v < VECTORS; v++) input[v] = AC_JOIN(flip_, VECTOR)(AC_LOAD(VECTOR, from + 4 * LANES * v));
    AC_UNROLL for (int i = 0; i < 4 * groups; i++) {
      const VECTOR weight = AC_SPLAT(VECTOR, *(const i32_memory *)(weights + i / 4 * next + i % 4 * 4));
      AC_UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_JOIN(dot4u_, VECTOR)(sum[i][v], input[v], weight);
    }
  }
  if (part->last)
    AC_UNROLL for (int g = 0; g < groups; g++)
      AC_JOIN(TILE, _finish)(part->p, part->view, &tile->place, row + 4 * g, sum + 4 * g, part->low, part->high, part->y);
  else
    AC_UNROLL for (int i = 0; i < 4 * groups; i++)
      AC_UNROLL for (int v = 0; v < VECTORS; v++) AC_STORE(VECTOR, own + LANES * (VECTORS * i + v), sum[i][v]);
}

static AC_NOINLINE void AC_JOIN(TILE, _8)(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) {
  AC_JOIN(TILE, _part)(part, 2, row, weights, tile);
}

static AC_NOINLINE void AC_JOIN(TILE, _4)(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) {
  AC_JOIN(TILE, _part)(part, 1, row, weights, tile);
}

#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
