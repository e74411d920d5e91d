/* Included by s8_block1x4.c once per width of the tile: all rows, one at a time, for the positions of a tile. */
#define VECTOR AC_JOIN(i32x, LANES)
#define SPLAT_PAIR AC_JOIN(splat_pair_, VECTOR)
#define DOT4 AC_JOIN(dot4u_, VECTOR)
#define FLIP AC_JOIN(flip_, VECTOR)

#include "s8_store.h"

/* A block's products, and with AC_VNNI what flipping its inputs adds to them. */
static inline void AC_JOIN(TILE, _block)(VECTOR *own, VECTOR *more, const int8_t *from, int64_t width, VECTOR weight) {
  VECTOR input[VECTORS];
  for (int v = 0; v < VECTORS; v++) input[v] = AC_LOAD(VECTOR, from + 4 * AT(v, width));
#if VECTORS == 8
  AC_LOADED(input[0], input[1], input[2], input[3]);
  AC_LOADED(input[4], input[5], input[6], input[7]);
#endif
  for (int v = 0; v < VECTORS; v++) own[v] = DOT4(own[v], FLIP(input[v]), weight);
  if (AC_VNNI) *more = DOT4(*more, FLIP((VECTOR){0}), weight);
}

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
  for (int64_t row = 0; row < p->rows; row += 4) {
    FETCH_OUTPUTS(p, y, &place, row);
    /* The outputs of 4 rows are stored together, because they lie together in y. */
    VECTOR sum[4][VECTORS];
    SUMS_STAY for (int i = 0; i < 4; i++) {
      VECTOR own[VECTORS], more = {0};
      for (int v = 0; v < VECTORS; v++) own[v] = AC_SPLAT(VECTOR, begin[row + i]);
      const int32_t *const end = offsets + p->counts[row + i];
#if defined(__aarch64__)
      /* Two blocks at a time: their indices are one load, their weights another. x86 has no such loads. */
      for (; end - offsets >= 2; offsets += 2, weights += 8) {
        const int8_t *first = x + 4 * (int64_t)offsets[0], *second = x + 4 * (int64_t)offsets[1];
        AC_JOIN(TILE, _block)(own, &more, first, place.width, SPLAT_PAIR(weights, 0));
        AC_JOIN(TILE, _block)(own, &more, second, place.width, SPLAT_PAIR(weights, 1));
      }
#endif
      for (; offsets != end; offsets++, weights += 4) {
        const VECTOR weight = AC_SPLAT(VECTOR, *(const i32_memory *)weights);
        AC_JOIN(TILE, _block)(own, &more, x + 4 * (int64_t)*offsets, place.width, weight);
      }
      for (int v = 0; v < VECTORS; v++) sum[i][v] = own[v] - more;
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

#undef VECTOR
#undef SPLAT_PAIR
#undef DOT4
#undef FLIP
#undef LANES
#undef VECTORS
#undef TILE
