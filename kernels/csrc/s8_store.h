/* Included by the s8 tiles where all sums of 4 rows are known: `row`, `sum[4][VECTORS]`. */
if (p->y_real) {
  for (int i = 0; i < 4 && row + i < p->rows; i++) {
    float *to = (float *)y + (row + i) * p->y_plane, tile[LANES * VECTORS];
    float *store = place.whole ? to + place.pixel : tile;
    for (int v = 0; v < VECTORS; v++) AC_STORE(AC_JOIN(f32x, LANES), store + LANES * v, REAL(LANES)(p, row + i, sum[i][v]));
    if (!place.whole) ac_scatter4(p, view, &place, tile, to);
  }
} else {
  int8_t *to = (int8_t *)y + row * p->y_plane, tile[4 * LANES * VECTORS];
  int8_t *store = place.whole ? to + 4 * place.pixel : tile;
  for (int v = 0; v < VECTORS; v++) {
    VECTOR q[4];
    for (int i = 0; i < 4; i++) q[i] = REQUANTISE(LANES)(p, row + i, sum[i][v], low, high);
    AC_STORE(VECTOR, store + 4 * LANES * v, QUADS(LANES)(q, (int32_t)p->y_zero_point));
  }
  if (!place.whole) ac_scatter4(p, view, &place, tile, to);
}
