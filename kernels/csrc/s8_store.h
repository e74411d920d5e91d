/* Included by the s8 tiles before TILE: what becomes of the sums of 4 rows. */

/* Outputs where they are no plain run, their activation bends, or they are real. */
static AC_NOINLINE void AC_JOIN(TILE, _store)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                              const VECTOR (*sum)[VECTORS], void *y) {
  if (p->y_real) {
    for (int64_t i = 0; i < 4 && row + i < p->rows; i++) {
      float *to = (float *)y + (row + i) * p->y_plane, tile[LANES * VECTORS];
      float *store = place->whole ? to + place->pixel : tile;
      for (int v = 0; v < VECTORS; v++)
        AC_STORE(AC_JOIN(f32x, LANES), store + AT(v, place->width), AC_JOIN(activate_f32x, LANES)(p, SCALED(LANES)(p, row + i, sum[i][v])));
      if (!place->whole) ac_scatter4(p, view, place, tile, to);
    }
    return;
  }
  int8_t *to = (int8_t *)y + row * p->y_plane, tile[4 * LANES * VECTORS];
  int8_t *store = place->whole ? to + 4 * place->pixel : tile;
  for (int v = 0; v < VECTORS; v++) {
    VECTOR q[4];
    for (int i = 0; i < 4; i++)
      q[i] = AC_JOIN(quantise_f32x, LANES)(p, SCALED(LANES)(p, row + i, sum[i][v]), low_code(p), high_code(p));
    AC_STORE(VECTOR, store + 4 * AT(v, place->width), QUADS(LANES)(q, (int32_t)p->y_zero_point));
  }
  if (!place->whole) ac_scatter4(p, view, place, tile, to);
}

/* The codes of 4 rows, of an activation that does not bend. */
static inline void AC_JOIN(TILE, _codes)(const ac_problem *p, int64_t row, const VECTOR (*sum)[VECTORS], float low, float high,
                                         VECTOR *codes) {
  AC_JOIN(f32x, LANES) r[VECTORS][4];
  AC_UNROLL for (int i = 0; i < 4; i++)
    AC_UNROLL for (int v = 0; v < VECTORS; v++) r[v][i] = SCALED(LANES)(p, row + i, sum[i][v]);
  AC_UNROLL for (int v = 0; v < VECTORS; v++) codes[v] = AC_JOIN(codes_, LANES)(r[v], low, high, (int32_t)p->y_zero_point);
}

static inline void AC_JOIN(TILE, _finish)(const ac_problem *p, const ac_view *view, const ac_place *place, int64_t row,
                                          const VECTOR (*sum)[VECTORS], float low, float high, void *y) {
  if (place->whole && !bends(p) && !p->y_real) {
    int8_t *to = (int8_t *)y + row * p->y_plane + 4 * place->pixel;
    VECTOR codes[VECTORS]; /* all of them before the first store, which might change scales for all the compiler knows */
    AC_JOIN(TILE, _codes)(p, row, sum, low, high, codes);
    AC_UNROLL for (int v = 0; v < VECTORS; v++) AC_STORE(VECTOR, to + 4 * AT(v, place->width), codes[v]);
  } else {
    VECTOR done[4][VECTORS]; /* a copy, so that the sums themselves may stay in registers */
    memcpy(done, sum, sizeof done);
    AC_JOIN(TILE, _store)(p, view, place, row, done, y);
  }
}

#if SPARSE && AC_VNNI && LANES == 16
/* The same where some lanes are no outputs. */
static inline void AC_JOIN(TILE, _finish_kept)(const ac_problem *p, const ac_kept *kept, int64_t row, const VECTOR (*sum)[VECTORS], float low,
                                               float high, void *y) {
  int8_t *to = (int8_t *)y + row * p->y_plane;
  VECTOR codes[VECTORS];
  AC_JOIN(TILE, _codes)(p, row, sum, low, high, codes);
  AC_UNROLL for (int v = 0; v < VECTORS; v++) store_lanes_i32x16(to + 4 * kept->pixel[v], codes[v], kept->lanes[v]);
}
#endif
