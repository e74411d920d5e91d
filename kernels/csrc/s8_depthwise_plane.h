/* Included by s8_depthwise.c once per window (WINDOW x WINDOW) and STRIDE: one plane of outputs of a quad of channels, TALL rows at a
 * time and then the rest row by row.
 *
 * A turned register of inputs holds 4 neighbouring positions of every channel, so one dot4 does 4 taps of a row of the window. With
 * stride 1 the same register with taps moved up by a position gives the next output. Each row of inputs serves all rows of outputs.
 */
#define PARTS ((WINDOW + 3) / 4)
#define SHIFTS (STRIDE == 1 ? 2 : 1)
#define LINE AC_JOIN(AC_JOIN(line_, WINDOW), AC_JOIN(s, STRIDE))
#define PLANE AC_JOIN(AC_JOIN(plane_, WINDOW), AC_JOIN(s, STRIDE))

/* `rows` rows of outputs; x is the first input that the first output reads. */
static inline __attribute__((always_inline)) void LINE(const ac_problem *p, const ending *end, const VECTOR w[WINDOW][PARTS][SHIFTS],
                                                        const int8_t *x, int64_t pitch, int64_t row, int rows, int bend, int8_t *y) {
  for (int64_t column = 0; column < end->width; column += LANES) {
    const int64_t at = end->width >= LANES && column + LANES > end->width ? end->width - LANES : column;
    const int8_t *from = x + 4 * STRIDE * at;
    VECTOR sum[TALL][4];
    AC_UNROLL for (int o = 0; o < rows; o++)
      AC_UNROLL for (int v = 0; v < 4; v++) sum[o][v] = end->start;
    AC_UNROLL for (int r = 0; r < (rows - 1) * STRIDE + WINDOW; r++)
      AC_UNROLL for (int part = 0; part < PARTS; part++)
        AC_UNROLL for (int v = 0; v < 4; v++) {
          const VECTOR input = turned(from + 4 * (r * pitch + FIRST(STRIDE, v) - v % SHIFTS + 4 * part));
          AC_UNROLL for (int o = 0; o < rows; o++)
            if (r >= o * STRIDE && r < o * STRIDE + WINDOW)
              sum[o][v] = DOT4(sum[o][v], input, w[r - o * STRIDE][part][v % SHIFTS]);
        }
    AC_UNROLL for (int o = 0; o < rows; o++) {
      VECTOR q[4];
      AC_UNROLL for (int v = 0; v < 4; v++) {
        REALS real = FMA(__builtin_convertvector(sum[o][v], REALS), end->scale, end->bias);
        if (bend) real = BEND(p, real) * p->y_inverse_scale;
        q[v] = ROUND(real, end->low, end->high);
      }
      const VECTOR codes = CODES(STRIDE, q, end->zero);
      int8_t *to = y + 4 * ((row + o) * end->width + at);
      /* A narrow row is followed by the next, which is stored later. */
      if (end->width >= LANES || (row + o) * end->width + LANES <= end->height * end->width)
        AC_STORE(VECTOR, to, codes);
      else
        memcpy(to, &codes, 4 * (size_t)end->width);
    }
  }
}

static void PLANE(const ac_problem *p, const ending *given, const int8_t *weights, const int8_t *x, int64_t pitch, int8_t *y) {
  const ending own = *given, *end = &own; /* a copy, which no store can change */
  VECTOR w[WINDOW][PARTS][SHIFTS];
  for (int r = 0; r < WINDOW; r++)
    for (int part = 0; part < PARTS; part++) {
      w[r][part][0] = taps_of(weights + 16 * (r * PARTS + part));
#if STRIDE == 1
      w[r][part][1] = (VECTOR)((UNSIGNED)w[r][part][0] << 8);
      if (part > 0) w[r][part][1] |= (VECTOR)((UNSIGNED)w[r][part - 1][0] >> 24);
#endif
    }
  int64_t row = 0;
  if (!bends(p))
    for (; row + TALL <= end->height; row += TALL) LINE(p, end, w, x + 4 * STRIDE * row * pitch, pitch, row, TALL, 0, y);
  if (!bends(p))
    for (; row < end->height; row++) LINE(p, end, w, x + 4 * STRIDE * row * pitch, pitch, row, 1, 0, y);
  else
    for (; row < end->height; row++) LINE(p, end, w, x + 4 * STRIDE * row * pitch, pitch, row, 1, 1, y);
}

#undef PARTS
#undef SHIFTS
#undef LINE
#undef PLANE
#undef WINDOW
#undef STRIDE
