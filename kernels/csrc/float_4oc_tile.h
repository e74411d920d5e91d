/* Included by float_4oc.h once per width of the tile: all rows, 4 at a time, for LANES * VECTORS positions. */
#include "float_4oc_step.h"

/* Outputs of up to 4 rows where they are no plain runs, or their activation bends. */
static AC_NOINLINE void AC_JOIN(TILE, _store)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                              const VECTOR (*sum)[VECTORS], element *y) {
  const ac_bounds bounds = bounds_of(p);
  for (int64_t i = 0; i < 4 && row + i < p->rows; i++) {
    element *to = y + (row + i) * p->y_plane, tile[WIDTH];
    element *store = place->whole ? to + place->pixel : tile;
    for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, store + LANES * v, FINISH(LANES)(p, bounds, sum[i][v]));
    if (!place->whole) ac_scatter(p, view, place, tile, to);
  }
}

static inline void AC_JOIN(TILE, _finish)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                          const VECTOR (*sum)[VECTORS], ac_bounds bounds, element *y) {
  if (place->whole && !bends(p) && row + 4 <= p->rows) {
    /* Before the first store, which might change them for all the compiler knows. */
    const int64_t plane = p->y_plane;
    element *to = y + row * plane + place->pixel;
    AC_UNROLL for (int i = 0; i < 4; i++, to += plane)
      AC_UNROLL for (int v = 0; v < VECTORS; v++) STORE_REALS(LANES, to + LANES * v, CLIP(LANES)(bounds, sum[i][v]));
  } else {
    VECTOR done[4][VECTORS]; /* a copy, so that the sums themselves may stay in registers */
    memcpy(done, sum, sizeof done);
    AC_JOIN(TILE, _store)(p, view, place, row, done, y);
  }
}

#if SPARSE
/* All rows, 4 at a time, of `count` tiles. */
static void TILE(const ac_problem *p, const ac_view *view, const ac_spot *spots, int64_t count, const element *x, element *y) {
  const ac_bounds bounds = bounds_of(p);
  const ac_spot *const behind = spots + count;
  const element *weights = p->weights;
  const int32_t *offsets = p->offsets, *counts = p->counts;
  const float *const bias = p->bias;
  for (int64_t row = 0, rows = p->rows; row < rows; row += 4) {
    const int32_t *const last = offsets + *counts++;
    const element *weight = weights;
    for (const ac_spot *spot = spots; spot != behind; spot++) {
      const element *from = x + spot->position;
      const int32_t *offset = offsets;
      VECTOR sum[4][VECTORS];
      weight = weights;
      for (int i = 0; i < 4; i++)
        for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, (real)bias[row + i]);
#if defined(__AVX__)
#if VECTORS == 1
      VECTOR odd[4][VECTORS] = {0}; /* 4 sums are too few for the latency of the multiply-add */
#else
      VECTOR(*const odd)[VECTORS] = sum;
#endif
      for (; last - offset >= 2; offset += 2, weight += 8) {
        AC_JOIN(TILE, _step)(sum, from + offset[0], weight, 0);
        AC_JOIN(TILE, _step)(odd, from + offset[1], weight + 4, 0);
      }
#if VECTORS == 1
      for (int i = 0; i < 4; i++) sum[i][0] += odd[i][0];
#endif
#endif
      for (; offset != last; offset++, weight += 4) AC_JOIN(TILE, _step)(sum, from + *offset, weight, 0);
      AC_JOIN(TILE, _finish)(p, view, &spot->place, row, sum, bounds, y);
    }
    weights = weight;
    offsets = last;
  }
}
#else
/* Sums of 4 * GROUPS rows begin as bias or, behind the first inputs, as `own`, and end there unless these are the last inputs. What they depend on
 * is handed over, because any store might change it for all the compiler knows. */
static inline __attribute__((always_inline)) void AC_JOIN(TILE, _begin)(const ac_problem *p, int64_t first, int64_t row, const real *own,
                                                                        VECTOR (*sum)[VECTORS]) {
  if (!first)
    memcpy(sum, own, 4 * GROUPS * sizeof *sum);
  else
    AC_UNROLL for (int i = 0; i < 4 * GROUPS; i++)
      AC_UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_SPLAT(VECTOR, (real)p->bias[row + i]);
}

static inline __attribute__((always_inline)) void AC_JOIN(TILE, _end)(const ac_part *part, const ac_problem *p, ac_bounds bounds,
                                                                      int64_t last, const ac_gathered *tile, int64_t row, real *own,
                                                                      VECTOR (*sum)[VECTORS]) {
  if (last)
    AC_UNROLL for (int i = 0; i < 4 * GROUPS; i += 4) AC_JOIN(TILE, _finish)(p, part->view, &tile->place, row + i, sum + i, bounds, part->y);
  else
    memcpy(own, sum, 4 * GROUPS * sizeof *sum);
}

/* Of the lines that the rows behind those from `row` on write, or the first ones of the next panel, those of rows i to end: a tile goes
 * through more planes than a CPU foresees streams. */
static inline __attribute__((always_inline)) void AC_JOIN(TILE, _fetch)(const ac_part *part, const ac_problem *p,
                                                                        const ac_gathered *tile, int64_t row, int64_t i, int64_t end) {
#if defined(__AVX__)
  const element *later = part->y + tile->place.pixel + (row + 4 * GROUPS < p->rows ? (row + 4 * GROUPS) * p->y_plane : part->pixels);
  for (later += i * p->y_plane; i < end; i++, later += p->y_plane) {
    for (int64_t at = 64 / sizeof *later - 1; at < WIDTH - 1; at += 64 / sizeof *later) AC_FETCH(later + at, 1);
    AC_FETCH(later + WIDTH - 1, 1);
  }
#else
  (void)part, (void)p, (void)tile, (void)row, (void)i, (void)end;
#endif
}

#if MOST_GROUPS == 2 && LANES == 16
#include "float_4oc_rounds.h"
#else
/* 4 * GROUPS rows of `count` tiles. */
static AC_NOINLINE void TILE(const ac_part *part, const ac_gathered *tile, int64_t count, int64_t row, const element *weights,
                             real *own) {
  const ac_problem *p = part->p;
  const ac_bounds bounds = part->bounds;
  const int64_t first = part->first, last = part->last;
  for (const ac_gathered *behind = tile + count; tile != behind; tile++, own += 4 * GROUPS * WIDTH) {
    VECTOR sum[4 * GROUPS][VECTORS];
    AC_JOIN(TILE, _begin)(p, first, row, own, sum);
    fetch(part->ahead);
    if (last) AC_JOIN(TILE, _fetch)(part, p, tile, row, 0, 4 * GROUPS);
    AC_JOIN(TILE, _steps)(sum, tile->inputs, tile->inputs + part->depth * WIDTH, weights, part->next_weights);
    AC_JOIN(TILE, _end)(part, p, bounds, last, tile, row, own, sum);
  }
}
#endif
#endif

#undef WIDTH
#undef VECTOR
#undef LANES
#undef VECTORS
#undef GROUPS
#undef TILE
