/* What the f32 and f16 kernels share: they are one source, included with AC_HALF 0 or 1.
 *
 * f16 tensors and weights are computed with in half precision where the core has it (sums too), else converted to f32 when
 * loaded and back when stored. bias is f32 for both.
 *
 *   element                 what lies in memory          ELEMENTS(lanes)  a vector of it
 *   real                    what is computed with        REALS(lanes)     a vector of it
 *   mask                    what comparing two reals gives  MASKS(lanes)   two REALS
 *   REAL_LANES              lanes of the widest vector
 */
#include "activation.h"
#include "view.h"

#if !AC_HALF
typedef float element;
typedef float real;
#define ELEMENTS(lanes) AC_JOIN(f32x, lanes)
#define REALS(lanes) AC_JOIN(f32x, lanes)
#define REAL_LANES AC_F32_LANES
#define AC_FLOAT(name) AC_JOIN(f32_, name)
#define ac_pad ac_pad4
#define ac_slack ac_slack4
#define ac_scatter ac_scatter4
#define ac_gather_rows ac_gather_rows4
#define ac_gather_masked ac_gather_masked4
#define ac_gather_eights ac_gather_eights4
#define ac_eights ac_eights4
#define ac_eights_of ac_eights_of4
#define ac_eights_row ac_eights_row4
#define ac_eights_fit ac_eights_fit4
#define AC_FILL ac_fill4
#define AC_PICK ac_pick4
#else
typedef _Float16 element;
#define ELEMENTS(lanes) AC_JOIN(f16x, lanes)
#define AC_FLOAT(name) AC_JOIN(f16_, name)
#define ac_pad ac_pad2
#define ac_slack ac_slack2
#define ac_scatter ac_scatter2
#define ac_gather_rows ac_gather_rows2
#define ac_gather_masked ac_gather_masked2
#define ac_gather_eights ac_gather_eights2
#define ac_eights ac_eights2
#define ac_eights_of ac_eights_of2
#define ac_eights_row ac_eights_row2
#define ac_eights_fit ac_eights_fit2
#define AC_FILL(to, count, fill) ac_fill2(to, count, (uint16_t)(fill))
#define AC_PICK ac_pick2
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define AC_NATIVE_HALF 1
typedef _Float16 real;
#define REALS(lanes) AC_JOIN(f16x, lanes)
#define REAL_LANES 8
#else
typedef float real;
#define REALS(lanes) AC_JOIN(f32x, lanes)
#define REAL_LANES AC_F32_LANES
#endif
#endif

#if defined(AC_NATIVE_HALF)
typedef int16_t mask;
#define MASKS(lanes) AC_JOIN(i16x, lanes)
#else
typedef int32_t mask;
#define MASKS(lanes) AC_JOIN(i32x, lanes)
#endif

#define LOAD_REALS(lanes, pointer) __builtin_convertvector(AC_LOAD(ELEMENTS(lanes), pointer), REALS(lanes))
#define STORE_REALS(lanes, pointer, v) AC_STORE(ELEMENTS(lanes), pointer, __builtin_convertvector(v, ELEMENTS(lanes)))

/* What none and clamp bound outputs by: taken from the problem once, because any store might change it for all the compiler knows. */
typedef struct {
  real low, high;
} ac_bounds;

static inline ac_bounds bounds_of(const ac_problem *p) { return (ac_bounds){(real)low_real(p), (real)high_real(p)}; }

/* clip_<lanes>: the activation, if it does not bend; finish_<lanes>: any. */
#if defined(AC_NATIVE_HALF)
#define AC_DEFINE_FINISH(lanes)                                                                            \
  __attribute__((unused)) static inline REALS(lanes) clip_##lanes(ac_bounds bounds, REALS(lanes) v) {      \
    const REALS(lanes) low = AC_SPLAT(REALS(lanes), bounds.low);                                           \
    const REALS(lanes) high = AC_SPLAT(REALS(lanes), bounds.high);                                         \
    v = AC_SELECT(REALS(lanes), MASKS(lanes), v < low, low, v);                                            \
    return AC_SELECT(REALS(lanes), MASKS(lanes), v > high, high, v);                                       \
  }                                                                                                        \
  __attribute__((unused)) static inline REALS(lanes)                                                       \
      finish_##lanes(const ac_problem *p, ac_bounds bounds, REALS(lanes) v) {                              \
    if (!bends(p)) return clip_##lanes(bounds, v);                                                         \
    const AC_JOIN(f32x, lanes) wide = __builtin_convertvector(v, AC_JOIN(f32x, lanes));                    \
    return __builtin_convertvector(AC_JOIN(ac_bend_f32x, lanes)(p, wide), REALS(lanes));                   \
  }
#else
#define AC_DEFINE_FINISH(lanes)                                                                            \
  __attribute__((unused)) static inline REALS(lanes) clip_##lanes(ac_bounds bounds, REALS(lanes) v) {      \
    v = AC_JOIN(larger_f32x, lanes)(AC_SPLAT(REALS(lanes), bounds.low), v);                                \
    return AC_JOIN(smaller_f32x, lanes)(AC_SPLAT(REALS(lanes), bounds.high), v);                           \
  }                                                                                                        \
  __attribute__((unused)) static inline REALS(lanes)                                                       \
      finish_##lanes(const ac_problem *p, ac_bounds bounds, REALS(lanes) v) {                              \
    return bends(p) ? AC_JOIN(ac_bend_f32x, lanes)(p, v) : clip_##lanes(bounds, v);                        \
  }
#endif

AC_DEFINE_FINISH(4)
#if REAL_LANES == 8
AC_DEFINE_FINISH(8)
#elif REAL_LANES == 16
AC_DEFINE_FINISH(16)
#endif
#define CLIP(lanes) AC_JOIN(clip_, lanes)
#define FINISH(lanes) AC_JOIN(finish_, lanes)

/* One output that is no vector: through the same code as the others. */
__attribute__((unused)) static inline void store_single(const ac_problem *p, real value, element *y) {
  *y = (element)finish_4(p, bounds_of(p), AC_SPLAT(REALS(4), value))[0];
}
