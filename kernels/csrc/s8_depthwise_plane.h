/* Included by s8_depthwise.c once per window (WINDOW x WINDOW) and STRIDE: one plane of outputs of a quad of channels.
 *
 * A turned register of inputs holds 4 neighbouring positions of every channel, so one dot4 does 4 taps of a row of the window. With
 * stride 1 the same register with taps moved up by a position gives the next output. Rows of inputs serve TALL rows of outputs at once.
 */
#define PARTS ((WINDOW + 3) / 4)
#define SHIFTS (STRIDE == 1 ? 2 : 1)
#define LINE AC_JOIN(AC_JOIN(line_, WINDOW), AC_JOIN(s, STRIDE))
#define PLANE AC_JOIN(AC_JOIN(plane_, WINDOW), AC_JOIN(s, STRIDE))

/* `rows` rows of outputs, which is a constant. x: the first input that they read. A row that is narrower than a tile is stored as one. */
static inline __attribute__((always_inline)) void LINE(const ac_problem *p, const ac_ending *end, const VECTOR w[WINDOW][PARTS][SHIFTS],
                                                        const int8_t *x, int64_t pitch, int rows, int bend, int8_t *y) {
  for (int64_t column = 0; column < end->width; column += LANES) {
    int64_t at = column + LANES > end->width ? end->width - LANES : column;
    at = at < 0 ? 0 : at;
    VECTOR sum[TALL][4];
    AC_UNROLL for (int o = 0; o < rows; o++)
      AC_UNROLL for (int v = 0; v < 4; v++) sum[o][v] = end->start;
    AC_UNROLL for (int r = 0; r < (rows - 1) * STRIDE + WINDOW; r++)
      AC_UNROLL for (int position = 0; position < 16; position += 2) {
        const VECTOR input = turned(x + 4 * (STRIDE * at + r * pitch + position));
        AC_UNROLL for (int part = 0; part < PARTS; part++)
          AC_UNROLL for (int v = 0; v < 4; v++)
            if (FIRST(STRIDE, v) - v % SHIFTS + 4 * part == position)
              AC_UNROLL for (int o = 0; o < rows; o++)
                if (r >= o * STRIDE && r < o * STRIDE + WINDOW)
                  sum[o][v] = DOT4(sum[o][v], input, w[r - o * STRIDE][part][v % SHIFTS]);
      }
    AC_UNROLL for (int o = 0; o < rows; o++) {
      VECTOR q[4];
      AC_UNROLL for (int v = 0; v < 4; v++) {
        REALS real = FMA(SUM(sum[o][v]), end->scale, end->bias);
        if (bend) real = BEND(p, real) * p->y_inverse_scale;
        q[v] = LOW_BITS(SMALLER(end->high, LARGER(end->low, real)));
      }
      AC_STORE(VECTOR, y + 4 * (o * end->width + at), CODES(STRIDE, q, end->zero));
    }
  }
}

static AC_NOINLINE void PLANE(const ac_problem *p, const ac_ending *given, const int8_t *weights, const int8_t *x, int64_t pitch,
                              int8_t *y) {
  const ac_ending own = *given, *end = &own; /* a copy, which no store can change */
  VECTOR w[WINDOW][PARTS][SHIFTS];
  AC_UNROLL for (int r = 0; r < WINDOW; r++)
    AC_UNROLL for (int part = 0; part < PARTS; part++) {
      w[r][part][0] = taps_of(weights + 16 * (r * PARTS + part));
#if STRIDE == 1
      w[r][part][1] = (VECTOR)((UNSIGNED)w[r][part][0] << 8);
      if (part > 0) w[r][part][1] |= (VECTOR)((UNSIGNED)w[r][part - 1][0] >> 24);
#endif
    }
  /* Rows after which the plane goes on for as long as a tile runs over them. */
  const int64_t free_rows = end->height - (end->width < LANES ? (LANES - 1) / end->width : 0);
  const int bend = bends(p);
  int64_t row = 0;
  if (!bend)
    for (; row + TALL <= free_rows; row += TALL)
      LINE(p, end, w, x + 4 * STRIDE * row * pitch, pitch, TALL, 0, y + 4 * row * end->width);
  for (; row < end->height; row++) {
    const int8_t *from = x + 4 * STRIDE * row * pitch;
    int8_t *to = y + 4 * row * end->width, tile[4 * LANES], *store = row < free_rows ? to : tile;
    if (bend)
      LINE(p, end, w, from, pitch, 1, 1, store);
    else
      LINE(p, end, w, from, pitch, 1, 0, store);
    if (row >= free_rows) memcpy(to, tile, 4 * (size_t)end->width);
  }
}

#undef PARTS
#undef SHIFTS
#undef LINE
#undef PLANE
#undef WINDOW
#undef STRIDE
