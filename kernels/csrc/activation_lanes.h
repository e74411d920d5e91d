/* Included by activation.c once for each number of lanes. */
#define V AC_JOIN(f32x, LANES)
#define I AC_JOIN(i32x, LANES)
#define NAME(f) AC_JOIN(AC_JOIN(f, _), V)
#define FMA AC_JOIN(fma_, V)
#define LARGER AC_JOIN(larger_, V)
#define SMALLER AC_JOIN(smaller_, V)
#define C(value) AC_SPLAT(V, value)

static inline V NAME(exp)(V x) {
  x = SMALLER(C(88.0f), LARGER(C(-87.0f), x));
  const V n = FMA(x, C(1.44269504f), C(12582912.0f)) - 12582912.0f;
  const V r = FMA(n, C(2.12194440e-4f), FMA(n, C(-0.693359375f), x));
  V e = FMA(C(1.9875691500e-4f), r, C(1.3981999507e-3f));
  e = FMA(e, r, C(8.3334519073e-3f));
  e = FMA(e, r, C(4.1665795894e-2f));
  e = FMA(e, r, C(1.6666665459e-1f));
  e = FMA(e, r, C(5.0000001201e-1f));
  e = FMA(e, r * r, r) + 1.0f;
  return e * (V)((__builtin_convertvector(n, I) + 127) << 23);
}

static inline V NAME(sigmoid)(V x) { return 1.0f / (1.0f + NAME(exp)(-x)); }

static inline V NAME(hardsigmoid)(V x) {
  return SMALLER(C(1.0f), LARGER(C(0.0f), FMA(x, C(1.0f / 6.0f), C(0.5f))));
}

static inline V NAME(gelu)(V x) {
  const V z = LARGER(x, -x) * 0.70710678f;
  const V t = 1.0f / FMA(z, C(0.3275911f), C(1.0f));
  V q = FMA(C(1.061405429f), t, C(-1.453152027f));
  q = FMA(q, t, C(1.421413741f));
  q = FMA(q, t, C(-0.284496736f));
  q = FMA(q, t, C(0.254829592f));
  const V tail = q * t * NAME(exp)(-(z * z)) * 0.5f;
  return x * AC_SELECT(V, I, x < 0.0f, tail, 1.0f - tail);
}

V AC_JOIN(ac_bend_, V)(const ac_problem *p, V x) {
  switch (p->activation) {
    case AC_HARDSWISH: return x * NAME(hardsigmoid)(x);
    case AC_HARDSIGMOID: return NAME(hardsigmoid)(x);
    case AC_SIGMOID: return NAME(sigmoid)(x);
    case AC_SILU: return x * NAME(sigmoid)(x);
    case AC_TANH: return 1.0f - 2.0f / (NAME(exp)(x * 2.0f) + 1.0f);
    case AC_GELU: return NAME(gelu)(x);
    case AC_GELU_TANH: return x * NAME(sigmoid)(x * FMA(x * x, C(0.0713548163f), C(1.5957691216f)));
    case AC_LEAKY_RELU: return AC_SELECT(V, I, x < 0.0f, x * p->slope, x);
    case AC_ELU: return AC_SELECT(V, I, x < 0.0f, (NAME(exp)(x) - 1.0f) * p->slope, x);
    default: return x;
  }
}

#undef V
#undef I
#undef NAME
#undef FMA
#undef LARGER
#undef SMALLER
#undef C
#undef LANES
