/* Vector types and the few operations that GNU vector extensions do not have.
 *
 * Names say element and lanes: f32x8 is 8 floats. Everything here compiles with clang and gcc for any machine; a type
 * that is wider than the machine's registers is split by the compiler, which is correct but slow.
 */
#ifndef AC_SIMD_H
#define AC_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <immintrin.h>
#endif

/* Lanes of the widest vector that the kernels use. s8_depthwise stays at 8 on AVX-512, and
 * so do the other s8 kernels unless AC_VNNI: vpsignb ends there. */
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
typedef int32_t i32x2 __attribute__((vector_size(8)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef uint16_t u16x4 __attribute__((vector_size(8)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int16_t i16x4 __attribute__((vector_size(8)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef int64_t i64x4 __attribute__((vector_size(32)));
typedef int8_t i8x4 __attribute__((vector_size(4)));
typedef int8_t i8x8 __attribute__((vector_size(8)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef int8_t i8x32 __attribute__((vector_size(32)));
typedef _Float16 f16x4 __attribute__((vector_size(8)));
typedef _Float16 f16x8 __attribute__((vector_size(16)));
typedef _Float16 f16x16 __attribute__((vector_size(32)));

/* The same in memory: of any alignment, and seen through any pointer. */
#define AC_MEMORY(type) typedef type type##_memory __attribute__((aligned(1), may_alias))
AC_MEMORY(f32x4);
AC_MEMORY(f32x8);
AC_MEMORY(f32x16);
AC_MEMORY(i32x2);
AC_MEMORY(i32x4);
AC_MEMORY(i32x8);
AC_MEMORY(i32x16);
AC_MEMORY(u32x4);
AC_MEMORY(u32x8);
AC_MEMORY(u16x4);
AC_MEMORY(u16x8);
AC_MEMORY(i16x4);
AC_MEMORY(i16x8);
AC_MEMORY(i16x16);
AC_MEMORY(i8x4);
AC_MEMORY(i8x8);
AC_MEMORY(i8x16);
AC_MEMORY(i8x32);
AC_MEMORY(f16x4);
AC_MEMORY(f16x8);
AC_MEMORY(f16x16);
typedef int32_t i32_memory __attribute__((aligned(1), may_alias));

#define AC_NOINLINE __attribute__((noinline))

/* Before loops over arrays of vectors whose elements can be in registers only when no index is left. */
#if defined(__clang__)
#define AC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AC_UNROLL _Pragma("GCC unroll 16")
#endif

/* Before loops of few rounds, which vectors or copies of the loop would only slow down. */
#if defined(__clang__)
#define AC_SHORT _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define AC_SHORT
#endif

/* Before a loop that takes up to 6% longer if it begins late in a line of code. */
#if defined(__clang__) && defined(__x86_64__)
#define AC_ALIGNED_LOOP [[clang::code_align(64)]]
#else
#define AC_ALIGNED_LOOP
#endif

/* Before loops over the kept blocks of one row. Two blocks at a time need fewer loads on ARM, which loads indices and weights in pairs. */
#if defined(__aarch64__) && defined(__clang__)
#define AC_PAIRS _Pragma("clang loop unroll_count(2)")
#else
#define AC_PAIRS
#endif

/* The compiler has these sums in registers here, and moves no load from behind to before: where a loop needs all registers there are,
 * loading early means spilling. */
#if defined(__AVX512F__)
#define AC_SETTLE(a, b, c) __asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c) : : "memory")
#else
#define AC_SETTLE(a, b, c) __asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c) : : "memory")
#endif

/* ARM: all of them are loaded before any is used. A core that issues in order waits a cycle or two for each that is used at once. */
#if defined(__aarch64__)
#define AC_LOADED(a, b, c, d) __asm__("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d))
#else
#define AC_LOADED(a, b, c, d)
#endif

#define AC_JOIN_(a, b) a##b
#define AC_JOIN(a, b) AC_JOIN_(a, b)
#define AC_LOAD(type, pointer) (*(const AC_JOIN(type, _memory) *)(pointer))
#define AC_STORE(type, pointer, value) (*(AC_JOIN(type, _memory) *)(pointer) = (value))

/* Bring a line into L1. Only where its effect has been measured. */
#if defined(__AVX__)
#define AC_FETCH(p, write) __builtin_prefetch(p, write)
#else
#define AC_FETCH(p, write) ((void)0)
#endif

/* The sum of the 4 quarters of 16 lanes. */
#define AC_QUARTERS(v)                                                                      \
  ((__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7)) + \
   (__builtin_shufflevector(v, v, 8, 9, 10, 11) + __builtin_shufflevector(v, v, 12, 13, 14, 15)))

/* All lanes `value`; the compiler makes it one broadcast, or a by-element operand. */
#define AC_SPLAT(type, value) ((value) - (type){0})

/* Where `mask` (a comparison) holds `a`, elsewhere `b`. */
#define AC_SELECT(type, mask_type, mask, a, b) ((type)(((mask) & (mask_type)(a)) | (~(mask) & (mask_type)(b))))

/* Every second element of two vectors in a row: the first, third, ... and the second, fourth, ... */
#define AC_EVEN_4 0, 2, 4, 6
#define AC_EVEN_8 AC_EVEN_4, 8, 10, 12, 14
#define AC_EVEN_16 AC_EVEN_8, 16, 18, 20, 22, 24, 26, 28, 30
#define AC_ODD_4 1, 3, 5, 7
#define AC_ODD_8 AC_ODD_4, 9, 11, 13, 15
#define AC_ODD_16 AC_ODD_8, 17, 19, 21, 23, 25, 27, 29, 31
#define AC_EVEN(lanes, low, high) __builtin_shufflevector(low, high, AC_JOIN(AC_EVEN_, lanes))
#define AC_ODD(lanes, low, high) __builtin_shufflevector(low, high, AC_JOIN(AC_ODD_, lanes))

/* The other way round: elements of two vectors in turn, in a row of two. */
#define AC_LOW_4 0, 4, 1, 5
#define AC_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define AC_HIGH_4 2, 6, 3, 7
#define AC_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define AC_LOW(lanes, even, odd) __builtin_shufflevector(even, odd, AC_JOIN(AC_LOW_, lanes))
#define AC_HIGH(lanes, even, odd) __builtin_shufflevector(even, odd, AC_JOIN(AC_HIGH_, lanes))

/* fma: a * b + c rounded once. larger, smaller: of a bound and a value that is not NaN. nearest: to int32, ties to even, for
 * magnitudes below 2^22. */
#define AC_DEFINE_REAL(lanes)                                                                                             \
  static inline AC_JOIN(f32x, lanes) AC_JOIN(fma_f32x, lanes)(AC_JOIN(f32x, lanes) a, AC_JOIN(f32x, lanes) b,             \
                                                              AC_JOIN(f32x, lanes) c) {                                   \
    return AC_FMA(lanes, a, b, c);                                                                                        \
  }                                                                                                                       \
  static inline AC_JOIN(f32x, lanes) AC_JOIN(larger_f32x, lanes)(AC_JOIN(f32x, lanes) a, AC_JOIN(f32x, lanes) b) {        \
    return AC_SELECT(AC_JOIN(f32x, lanes), AC_JOIN(i32x, lanes), a > b, a, b);                                            \
  }                                                                                                                       \
  static inline AC_JOIN(f32x, lanes) AC_JOIN(smaller_f32x, lanes)(AC_JOIN(f32x, lanes) a, AC_JOIN(f32x, lanes) b) {       \
    return AC_SELECT(AC_JOIN(f32x, lanes), AC_JOIN(i32x, lanes), a < b, a, b);                                            \
  }                                                                                                                       \
  static inline AC_JOIN(i32x, lanes) AC_JOIN(nearest_f32x, lanes)(AC_JOIN(f32x, lanes) a) {                               \
    return __builtin_convertvector((a + 12582912.0f) - 12582912.0f, AC_JOIN(i32x, lanes));                                \
  }

#if defined(__clang__)
#define AC_FMA(lanes, a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define AC_FMA(lanes, a, b, c)                                        \
  ({                                                                  \
    AC_JOIN(f32x, lanes) result = {0};                                \
    for (int i = 0; i < lanes; i++) result[i] = fmaf(a[i], b[i], c[i]); \
    result;                                                           \
  })
#endif

#if defined(__ARM_NEON) && defined(__aarch64__)
static inline f32x4 fma_f32x4(f32x4 a, f32x4 b, f32x4 c) { return (f32x4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
static inline f32x4 larger_f32x4(f32x4 a, f32x4 b) { return (f32x4)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
static inline f32x4 smaller_f32x4(f32x4 a, f32x4 b) { return (f32x4)vminq_f32((float32x4_t)a, (float32x4_t)b); }
static inline i32x4 nearest_f32x4(f32x4 a) { return (i32x4)vcvtnq_s32_f32((float32x4_t)a); }
#elif defined(__SSE2__)
static inline f32x4 fma_f32x4(f32x4 a, f32x4 b, f32x4 c) { return AC_FMA(4, a, b, c); }
static inline f32x4 larger_f32x4(f32x4 a, f32x4 b) { return (f32x4)_mm_max_ps((__m128)a, (__m128)b); }
static inline f32x4 smaller_f32x4(f32x4 a, f32x4 b) { return (f32x4)_mm_min_ps((__m128)a, (__m128)b); }
static inline i32x4 nearest_f32x4(f32x4 a) { return (i32x4)_mm_cvtps_epi32((__m128)a); }
#else
AC_DEFINE_REAL(4)
#endif

#if defined(__AVX__)
static inline f32x8 fma_f32x8(f32x8 a, f32x8 b, f32x8 c) { return AC_FMA(8, a, b, c); }
static inline f32x8 larger_f32x8(f32x8 a, f32x8 b) { return (f32x8)_mm256_max_ps((__m256)a, (__m256)b); }
static inline f32x8 smaller_f32x8(f32x8 a, f32x8 b) { return (f32x8)_mm256_min_ps((__m256)a, (__m256)b); }
static inline i32x8 nearest_f32x8(f32x8 a) { return (i32x8)_mm256_cvtps_epi32((__m256)a); }
#else
AC_DEFINE_REAL(8)
#endif

#if AC_F32_LANES == 16 && defined(__AVX512F__)
static inline f32x16 fma_f32x16(f32x16 a, f32x16 b, f32x16 c) { return AC_FMA(16, a, b, c); }
static inline f32x16 larger_f32x16(f32x16 a, f32x16 b) { return (f32x16)_mm512_max_ps((__m512)a, (__m512)b); }
static inline f32x16 smaller_f32x16(f32x16 a, f32x16 b) { return (f32x16)_mm512_min_ps((__m512)a, (__m512)b); }
static inline i32x16 nearest_f32x16(f32x16 a) { return (i32x16)_mm512_cvtps_epi32((__m512)a); }
#elif AC_F32_LANES == 16
AC_DEFINE_REAL(16)
#endif

/* dot4: every 32-bit lane of x and w is 4 int8; lane += sum of the 4 products. Needs w in [-127, 127].
 * splat_quad: 4 int8, the i-th of the 4 quads at w, in all lanes; splat_pair: the i-th of 2 quads. */
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

static inline i32x4 splat_pair_i32x4(const int8_t *w, int i) {
  const i32x2 pair = AC_LOAD(i32x2, w);
  return i ? __builtin_shufflevector(pair, pair, 1, 1, 1, 1) : __builtin_shufflevector(pair, pair, 0, 0, 0, 0);
}

#else

static inline i32x4 splat_quad_i32x4(const int8_t *w, int i) { return AC_SPLAT(i32x4, *(const i32_memory *)(w + 4 * i)); }
static inline i32x4 splat_pair_i32x4(const int8_t *w, int i) { return splat_quad_i32x4(w, i); }

#if defined(__AVX2__)

static inline i32x8 splat_quad_i32x8(const int8_t *w, int i) { return AC_SPLAT(i32x8, *(const i32_memory *)(w + 4 * i)); }

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

/* AC_VNNI: this machine multiplies u8 by s8 in vectors of 64 bytes, any of them exactly. So x is made unsigned, which adds 128 to each of
 * its elements: `flip`. Sums begin lower by 128 times the sum of their weights; where they wrap on their way, they wrap back. dot4u: as
 * dot4, with a flipped x and any w. Elsewhere nothing is flipped, and dot4u is dot4. some_quads: the first 0 < count <= 16, others 0.
 * store_lanes: those whose bits are set, one after the other. pick: of 2, 4 or 8 vectors the lanes of these numbers. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__AVX512BW__) && AC_F32_LANES == 16
#define AC_VNNI 1
static inline i32x4 dot4u_i32x4(i32x4 sum, i32x4 x, i32x4 w) { return (i32x4)_mm_dpbusd_epi32((__m128i)sum, (__m128i)x, (__m128i)w); }
static inline i32x8 dot4u_i32x8(i32x8 sum, i32x8 x, i32x8 w) {
  return (i32x8)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)x, (__m256i)w);
}
static inline i32x16 dot4u_i32x16(i32x16 sum, i32x16 x, i32x16 w) {
  return (i32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
}
#define AC_FLIP INT32_C(-0x7f7f7f80)
static inline i32x4 flip_i32x4(i32x4 x) { return x ^ AC_FLIP; }
static inline i32x8 flip_i32x8(i32x8 x) { return x ^ AC_FLIP; }
static inline i32x16 flip_i32x16(i32x16 x) { return x ^ AC_FLIP; }
/* Flipped lanes of memory where `inside` says so, those of `otherwise` elsewhere; only the former are read. */
static inline i32x16 flip_inside_i32x16(i32x16 otherwise, uint16_t inside, const void *x) {
  return (i32x16)_mm512_mask_xor_epi32((__m512i)otherwise, inside, _mm512_set1_epi32((int)AC_FLIP), _mm512_maskz_loadu_epi32(inside, x));
}
static inline i32x16 splat_quad_i32x16(const int8_t *w, int i) { return AC_SPLAT(i32x16, *(const i32_memory *)(w + 4 * i)); }
static inline i32x16 some_quads_i32x16(const int8_t *x, int64_t count) {
  return (i32x16)_mm512_maskz_loadu_epi32((__mmask16)(0xffff >> (16 - count)), x);
}
static inline i32x16 pick2_i32x16(const i32x16 *from, i32x16 at) {
  return (i32x16)_mm512_permutex2var_epi32((__m512i)from[0], (__m512i)at, (__m512i)from[1]);
}
static inline i32x16 pick4_i32x16(const i32x16 *from, i32x16 at) {
  const __mmask16 upper = _mm512_test_epi32_mask((__m512i)at, _mm512_set1_epi32(32));
  return (i32x16)_mm512_mask_mov_epi32((__m512i)pick2_i32x16(from, at), upper, (__m512i)pick2_i32x16(from + 2, at));
}
static inline i32x16 pick8_i32x16(const i32x16 *from, i32x16 at) {
  const __mmask16 upper = _mm512_test_epi32_mask((__m512i)at, _mm512_set1_epi32(64));
  return (i32x16)_mm512_mask_mov_epi32((__m512i)pick4_i32x16(from, at), upper, (__m512i)pick4_i32x16(from + 4, at));
}
static inline void store_lanes_i32x16(void *to, i32x16 x, uint32_t lanes) {
  const __mmask16 first = (__mmask16)((1u << __builtin_popcount(lanes)) - 1);
  _mm512_mask_storeu_epi32(to, first, _mm512_maskz_compress_epi32((__mmask16)lanes, (__m512i)x));
}
#else
#define AC_VNNI 0
#define AC_FLIP 0
static inline i32x4 dot4u_i32x4(i32x4 sum, i32x4 x, i32x4 w) { return dot4_i32x4(sum, x, w); }
static inline i32x4 flip_i32x4(i32x4 x) { return x; }
#if defined(__AVX2__)
static inline i32x8 dot4u_i32x8(i32x8 sum, i32x8 x, i32x8 w) { return dot4_i32x8(sum, x, w); }
static inline i32x8 flip_i32x8(i32x8 x) { return x; }
#endif
#endif

/* zip: lanes of a and b in turn, of their first halves and of their second ones. join: the first halves of a and b, and the second ones.
 * mmla: halves i of a and j of b are 8 int8 each; lane 2 * i + j += sum of the 8 products. */
#if AC_I8MM
static inline i32x4 zip_low_i32x4(i32x4 a, i32x4 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
static inline i32x4 zip_high_i32x4(i32x4 a, i32x4 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
static inline i32x4 join_low_i32x4(i32x4 a, i32x4 b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5); }
static inline i32x4 join_high_i32x4(i32x4 a, i32x4 b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7); }
AC_WITH_I8MM static inline i32x4 mmla_i32x4(i32x4 sum, i32x4 a, i32x4 b) {
  return (i32x4)vmmlaq_s32((int32x4_t)sum, (int8x16_t)a, (int8x16_t)b);
}
#endif

/* AC_DOT2: this machine multiplies pairs of int16 faster than quads of int8, which take it three instructions. dot2: every 32-bit lane of x
 * and w is 2 int16; lane += sum of the 2 products. splat_quad: 4 int16 in all 64-bit lanes. */
#if defined(__AVX2__) && !defined(__AVXVNNI__) && !(defined(__AVX512VNNI__) && defined(__AVX512VL__))
#define AC_DOT2 1
static inline i32x8 dot2_i32x8(i32x8 sum, i16x16 x, i16x16 w) { return sum + (i32x8)_mm256_madd_epi16((__m256i)x, (__m256i)w); }
static inline i16x16 splat_quad_i16x16(const int16_t *x) {
  int64_t quad;
  memcpy(&quad, x, sizeof quad);
  return (i16x16)(i64x4){quad, quad, quad, quad};
}
#else
#define AC_DOT2 0
#endif

/* The low bytes of q[0] to q[3] + zero as the 4 bytes of every lane; every sum is an int8. */
static inline i32x4 quads_i32x4(const i32x4 *q, int32_t zero) {
#if defined(__ARM_NEON) && defined(__aarch64__)
  int32x4_t packed = vsliq_n_s32((int32x4_t)q[0], (int32x4_t)q[1], 8);
  packed = vsliq_n_s32(packed, (int32x4_t)q[2], 16);
  packed = vsliq_n_s32(packed, (int32x4_t)q[3], 24);
  return (i32x4)vaddq_s8((int8x16_t)packed, vdupq_n_s8((int8_t)zero));
#else
  u32x4 packed = {0};
  for (int i = 0; i < 4; i++) packed |= (u32x4)(q[i] + zero) << 24 >> (24 - 8 * i);
  return (i32x4)packed;
#endif
}

/* Between int32 and float without conversions, where additions run on more pipes than those do: near 1.5 * 2^23 the low bits of a float
 * are an integer. Sums of magnitudes below 2^22 that begin with AC_SUM_BEGIN more are given back as floats by `sum_f32x4`;
 * `low_bits_f32x4` are those of the nearest integers, ties to even, also below 2^22. */
#if defined(__ARM_NEON) && defined(__aarch64__)
#define AC_SUM_BEGIN 0x4B400000
static inline f32x4 sum_f32x4(i32x4 sum) { return (f32x4)sum - 12582912.0f; }
static inline i32x4 low_bits_f32x4(f32x4 r) { return (i32x4)(r + 12582912.0f); }
#else
#define AC_SUM_BEGIN 0
static inline f32x4 sum_f32x4(i32x4 sum) { return __builtin_convertvector(sum, f32x4); }
static inline i32x4 low_bits_f32x4(f32x4 r) { return nearest_f32x4(r); }
#endif
#if defined(__AVX2__)
static inline f32x8 sum_f32x8(i32x8 sum) { return __builtin_convertvector(sum, f32x8); }
static inline i32x8 low_bits_f32x8(f32x8 r) { return nearest_f32x8(r); }
#endif

/* Every 16 bytes are 4 quads: byte i of quad j becomes byte j of quad i. */
static inline i32x4 turn_i32x4(i32x4 x) {
  return (i32x4)__builtin_shufflevector((i8x16)x, (i8x16)x, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

/* The low bytes of q[0] + zero, then those of q[1] and so on; every sum is an int8. */
static inline i32x4 codes_i32x4(const i32x4 *q, int32_t zero) {
  const i16x8 low = __builtin_shufflevector((i16x8)q[0], (i16x8)q[1], 0, 2, 4, 6, 8, 10, 12, 14);
  const i16x8 high = __builtin_shufflevector((i16x8)q[2], (i16x8)q[3], 0, 2, 4, 6, 8, 10, 12, 14);
  const i8x16 codes = __builtin_shufflevector((i8x16)low, (i8x16)high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return (i32x4)(codes + (int8_t)zero);
}

#if defined(__AVX2__)
static inline i32x8 turn_i32x8(i32x8 x) {
  const __m256i turn = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10,
                                        14, 3, 7, 11, 15);
  return (i32x8)_mm256_shuffle_epi8((__m256i)x, turn);
}

/* The same of either half: 4 quads of the lower halves of q, then 4 of the upper ones. */
static inline i32x8 codes_i32x8(const i32x8 *q, int32_t zero) {
  const __m256i z = _mm256_set1_epi16((int16_t)zero);
  const __m256i low = _mm256_add_epi16(_mm256_packs_epi32((__m256i)q[0], (__m256i)q[1]), z);
  const __m256i high = _mm256_add_epi16(_mm256_packs_epi32((__m256i)q[2], (__m256i)q[3]), z);
  return (i32x8)_mm256_packs_epi16(low, high);
}

static inline i32x8 quads_i32x8(const i32x8 *q, int32_t zero) {
  const __m256i z = _mm256_set1_epi16((int16_t)zero);
  const __m256i low = _mm256_add_epi16(_mm256_packs_epi32((__m256i)q[0], (__m256i)q[1]), z);
  const __m256i high = _mm256_add_epi16(_mm256_packs_epi32((__m256i)q[2], (__m256i)q[3]), z);
  const __m256i turn = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10,
                                        14, 3, 7, 11, 15);
  return (i32x8)_mm256_shuffle_epi8(_mm256_packs_epi16(low, high), turn);
}
#endif

#if AC_VNNI
/* Those that are below `least` become it, and what is too small for an int8. */
static inline i32x16 limited_quads_i32x16(const i32x16 *q, int32_t zero, int32_t least) {
  const __m512i z = _mm512_set1_epi16((int16_t)zero);
  const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)q[0], (__m512i)q[1]), z);
  const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)q[2], (__m512i)q[3]), z);
  const __m512i codes = _mm512_max_epi8(_mm512_packs_epi16(low, high), _mm512_set1_epi8((int8_t)least));
  const __m512i turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return (i32x16)_mm512_shuffle_epi8(codes, turn);
}
static inline i32x16 quads_i32x16(const i32x16 *q, int32_t zero) { return limited_quads_i32x16(q, zero, -128); }
#endif

#endif
