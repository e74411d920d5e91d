/* What the CPU can do beyond what the kernels are compiled for.
 *
 * AC_I8MM: there are variants with SMMLA (I8MM of Armv8.6), in functions that are compiled for it whatever the others are compiled for.
 * They may be called where ac_i8mm() is not 0: the same program runs on CPUs with and without.
 */
#ifndef AC_CPU_H
#define AC_CPU_H

#if defined(__ARM_NEON) && defined(__aarch64__) && (defined(__linux__) || defined(__ARM_FEATURE_MATMUL_INT8))
#define AC_I8MM 1
#define AC_WITH_I8MM __attribute__((target("+i8mm")))
extern int ac_cpu_i8mm; /* the system is asked once, when the program is loaded */
static inline int ac_i8mm(void) { return ac_cpu_i8mm; }
#else
#define AC_I8MM 0
static inline int ac_i8mm(void) { return 0; }
#endif

#endif
