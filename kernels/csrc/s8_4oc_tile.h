/* Included by s8_4oc.h once per width of the tile: all rows, 4 at a time, for the positions of a tile. */
#define VECTOR AC_JOIN(i32x, LANES)
#define SPLAT_QUAD AC_JOIN(splat_quad_, VECTOR)
#define DOT4 AC_JOIN(dot4u_, VECTOR)
#define FLIP AC_JOIN(flip_, VECTOR)

#include "s8_store.h"

#if SPARSE && AC_I8MM && VECTORS * LANES == WIDE
#include "s8_4oc_mmla.h"
#endif

static void TILE(const ac_problem *p, const ac_view *view, const int8_t *x, const int32_t *begin, void *y, ac_tile tile) {
  const ac_place place = ac_place_of(p, view, tile.at, tile.width);
  const int8_t *weights = p->weights;
  const int32_t *offsets = p->offsets;
  const float low = low_code(p), high = high_code(p);
  x += 4 * tile.at;
#if SPARSE && AC_VNNI && LANES == 16
  const int scattered = !place.whole && !bends(p) && !p->y_real;
  ac_kept kept;
  if (scattered) kept = kept_of(p, view, tile);
#endif
#if SPARSE && AC_I8MM && VECTORS * LANES == WIDE
  if (ac_i8mm()) {
    by_mmla(p, view, &place, x, low, high, y);
    return;
  }
#endif
  for (int64_t row = 0; row < p->rows; row += 4) {
    FETCH_OUTPUTS(p, y, &place, row);
    VECTOR sum[4][VECTORS];
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, begin[row + i]);
    EACH_BLOCK(row / 4) {
      const int8_t *from = BLOCK_INPUT;
      VECTOR input[VECTORS];
      for (int v = 0; v < VECTORS; v++) input[v] = FLIP(AC_LOAD(VECTOR, from + 4 * AT(v, place.width)));
      for (int i = 0; i < 4; i++) {
        const VECTOR weight = SPLAT_QUAD(weights, i);
        for (int v = 0; v < VECTORS; v++) sum[i][v] = DOT4(sum[i][v], input[v], weight);
      }
    }
#if SPARSE && AC_VNNI && LANES == 16
    if (scattered) {
      AC_JOIN(TILE, _finish_kept)(p, &kept, row, sum, low, high, y);
      continue;
    }
#endif
    AC_JOIN(TILE, _finish)(p, view, &place, row, sum, low, high, y);
  }
}

#if !SPARSE
/* 4 rows of a tile of a panel: sums begin as the start or, behind the first inputs, as `own`, and end there unless these are the last. */
static AC_NOINLINE void AC_JOIN(TILE, _part)(const ac_part *part, const ac_place *place, int64_t row, const int8_t *weights,
                                             int32_t *own) {
  const ac_problem *p = part->p;
  const int8_t *from = part->inputs, *const end = from + part->depth * 4 * LANES * VECTORS;
  VECTOR sum[4][VECTORS];
  if (part->first) {
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, p->start[row + i]);
  } else {
    memcpy(sum, own, sizeof sum);
  }
  for (; from != end; from += 4 * LANES * VECTORS, weights += STEP) {
    VECTOR input[VECTORS];
    for (int v = 0; v < VECTORS; v++) input[v] = AC_LOAD(VECTOR, from + 4 * LANES * v);
    for (int i = 0; i < 4; i++) {
      const VECTOR weight = SPLAT_QUAD(weights, i);
      for (int v = 0; v < VECTORS; v++) sum[i][v] = DOT4(sum[i][v], input[v], weight);
    }
  }
  if (part->last)
    AC_JOIN(TILE, _finish)(p, part->view, place, row, sum, part->low, part->high, part->y);
  else
    memcpy(own, sum, sizeof sum);
}
#endif

#undef VECTOR
#undef SPLAT_QUAD
#undef DOT4
#undef FLIP
#undef LANES
#undef VECTORS
#undef TILE
