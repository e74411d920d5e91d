/* Vector types and the few operations that GNU vector extensions do not have: dot4 and requantisation.
 *
 * Names say element and lanes: f32x8 is 8 floats. Everything here compiles with clang and gcc for any machine; a type
 * that is wider than the machine's registers is split by the compiler, which is correct but slow.
 */
#ifndef AC_SIMD_H
#define AC_SIMD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#endif

/* Lanes of the widest vector that the kernels use. The s8 kernels stay at 8 on AVX-512: vpsignb ends there. */
#ifndef AC_F32_LANES
#if defined(__AVX512F__)
#define AC_F32_LANES 16
#elif defined(__AVX__)
#define AC_F32_LANES 8
#else
#define AC_F32_LANES 4
#endif
#endif
#if defined(__AVX2__)
#define AC_S8_LANES 8
#else
#define AC_S8_LANES 4
#endif

typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef int64_t i64x4 __attribute__((vector_size(32)));
typedef int64_t i64x8 __attribute__((vector_size(64)));

/* The same in memory: of any alignment, and seen through any pointer. */
typedef f32x4 f32x4_memory __attribute__((aligned(1), may_alias));
typedef f32x8 f32x8_memory __attribute__((aligned(1), may_alias));
typedef f32x16 f32x16_memory __attribute__((aligned(1), may_alias));
typedef i32x4 i32x4_memory __attribute__((aligned(1), may_alias));
typedef i32x8 i32x8_memory __attribute__((aligned(1), may_alias));
typedef int32_t i32_memory __attribute__((aligned(1), may_alias));

#define AC_JOIN_(a, b) a##b
#define AC_JOIN(a, b) AC_JOIN_(a, b)
#define AC_LOAD(type, pointer) (*(const AC_JOIN(type, _memory) *)(pointer))
#define AC_STORE(type, pointer, value) (*(AC_JOIN(type, _memory) *)(pointer) = (value))

/* All lanes `value`; the compiler makes it one broadcast, or a by-element operand. */
#define AC_SPLAT(type, value) ((value) - (type){0})

/* Where `mask` (a comparison) holds `a`, elsewhere `b`. */
#define AC_SELECT(type, mask_type, mask, a, b) \
  ((type)(((mask) & (mask_type)(a)) | (~(mask) & (mask_type)(b))))

/* dot4: every 32-bit lane of x and w is 4 int8; lane += sum of the 4 products. Needs w in [-127, 127].
 * splat_quad: 4 int8, the i-th of the 4 quads at w, in all lanes. */
#if defined(__ARM_NEON) && defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

static inline i32x4 dot4_i32x4(i32x4 sum, i32x4 x, i32x4 w) {
  return (i32x4)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w);
}

static inline i32x4 splat_quad_i32x4(const int8_t *w, int i) {
  /* One load of all 4 quads, which SDOT then takes by element. */
  const i32x4 quads = AC_LOAD(i32x4, w);
  const int32_t quad = quads[i];
  return (i32x4){quad, quad, quad, quad};
}

#else

static inline i32x4 splat_quad_i32x4(const int8_t *w, int i) {
  return AC_SPLAT(i32x4, *(const i32_memory *)(w + 4 * i));
}

#if defined(__AVX2__)

static inline i32x8 splat_quad_i32x8(const int8_t *w, int i) {
  return AC_SPLAT(i32x8, *(const i32_memory *)(w + 4 * i));
}

/* x86 multiplies u8 by s8. Take |x| as the u8 (|-128| is 128) and move the sign of x to w, which is exact because w is
 * not -128. vpmaddubsw adds two products in int16 and saturates, but 2 * 128 * 127 = 32512 fits. */
static inline i32x4 dot4_i32x4(i32x4 sum, i32x4 x, i32x4 w) {
  const __m128i size = _mm_abs_epi8((__m128i)x);
  const __m128i sign = _mm_sign_epi8((__m128i)w, (__m128i)x);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  return (i32x4)_mm_dpbusd_epi32((__m128i)sum, size, sign);
#elif defined(__AVXVNNI__)
  return (i32x4)_mm_dpbusd_avx_epi32((__m128i)sum, size, sign);
#else
  return sum + (i32x4)_mm_madd_epi16(_mm_maddubs_epi16(size, sign), _mm_set1_epi16(1));
#endif
}

static inline i32x8 dot4_i32x8(i32x8 sum, i32x8 x, i32x8 w) {
  const __m256i size = _mm256_abs_epi8((__m256i)x);
  const __m256i sign = _mm256_sign_epi8((__m256i)w, (__m256i)x);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  return (i32x8)_mm256_dpbusd_epi32((__m256i)sum, size, sign);
#elif defined(__AVXVNNI__)
  return (i32x8)_mm256_dpbusd_avx_epi32((__m256i)sum, size, sign);
#else
  return sum + (i32x8)_mm256_madd_epi16(_mm256_maddubs_epi16(size, sign), _mm256_set1_epi16(1));
#endif
}

#else

/* In plain vectors: byte i of every lane, sign-extended by a shift up and an arithmetic shift down. */
static inline i32x4 dot4_i32x4(i32x4 sum, i32x4 x, i32x4 w) {
  for (int up = 0; up < 32; up += 8) sum += ((i32x4)((u32x4)x << up) >> 24) * ((i32x4)((u32x4)w << up) >> 24);
  return sum;
}

#endif
#endif

/* The int8 in every lane of q, as byte i of the lane; the other bytes are 0. */
#define AC_BYTE(lanes, q, i) ((AC_JOIN(i32x, lanes))((AC_JOIN(u32x, lanes))(q) << 24 >> (24 - 8 * (i))))

/* Requantise sums to outputs, as ac_kernels.h defines it; the result is an int8 in every int32 lane. */
#if defined(__ARM_NEON) && defined(__aarch64__)

/* sqdmulh keeps floor(sum * multiplier * 2^-31) and srshl rounds what is left: rounding a floor is rounding once, so
 * long as at least one bit is left to shift. For a shift of 31 that bit is made by doubling the sum first; if that
 * saturates, so does the output. */
static inline i32x4 requantise_i32x4(i32x4 sum, i32x4 multiplier, i32x4 shift, int32_t zero, int32_t low, int32_t high) {
  const int32x4_t up = vmaxq_s32(vsubq_s32(vdupq_n_s32(32), (int32x4_t)shift), vdupq_n_s32(0));
  const int32x4_t down = vminq_s32(vsubq_s32(vdupq_n_s32(31), (int32x4_t)shift), vdupq_n_s32(-1));
  int32x4_t q = vrshlq_s32(vqdmulhq_s32(vqshlq_s32((int32x4_t)sum, up), (int32x4_t)multiplier), down);
  q = vqaddq_s32(q, vdupq_n_s32(zero));
  return (i32x4)vminq_s32(vmaxq_s32(q, vdupq_n_s32(low)), vdupq_n_s32(high));
}

#else

#define AC_DEFINE_REQUANTISE(narrow, wide)                                                                          \
  static inline narrow AC_JOIN(requantise_, narrow)(narrow sum, narrow multiplier, narrow shift, int32_t zero,      \
                                                    int32_t low, int32_t high) {                                    \
    const wide by = __builtin_convertvector(shift, wide);                                                           \
    const wide product = __builtin_convertvector(sum, wide) * __builtin_convertvector(multiplier, wide);            \
    /* Clamp before the zero point is added: q is an int32, its sum with the zero point need not be. */             \
    const narrow q = __builtin_convertvector((product + (((wide){0} + 1) << (by - 1))) >> by, narrow);              \
    const narrow least = AC_SPLAT(narrow, low - zero), most = AC_SPLAT(narrow, high - zero);                        \
    const narrow floored = AC_SELECT(narrow, narrow, q < least, least, q);                                          \
    return AC_SELECT(narrow, narrow, floored > most, most, floored) + zero;                                         \
  }

AC_DEFINE_REQUANTISE(i32x4, i64x4)
#if AC_S8_LANES == 8
AC_DEFINE_REQUANTISE(i32x8, i64x8)
#endif

#endif

#endif
