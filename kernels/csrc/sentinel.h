/* The sentinel: how fast this CPU runs just now.
 *
 * A chain of dependent integer operations, which takes the same number of cycles whatever the caches hold: its time is the clock's.
 * Beside each link of the chain there are independent operations, as many as a core of four integer units computes in its latency.
 * They cost nothing while the core is ours. A neighbour on the same core, as another hardware thread, takes units or slots of the
 * front end from them: the sentinel slows down as kernels do, though the clock is the same. */
#ifndef AC_SENTINEL_H
#define AC_SENTINEL_H

#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

/* A time that is longer than this times the fastest was taken at a slower clock, or beside a neighbour. */
#define AC_SENTINEL_TOLERANCE 1.03

static inline double ac_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ns: the fastest of a few runs, since one that was interrupted says nothing of the clock. */
static inline double ac_sentinel_ns(void) {
  double best = 1e300;
  for (int i = 0; i < 5; i++) {
    uint64_t x = 1, y = 3, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
    __asm__ volatile("" : "+r"(y)); /* else the compiler knows the sums */
    const double begin = ac_now_ns();
    for (int k = 0; k < 20000; k++) {
      x = x * 0x2545f4914f6cdd1du + 1;
      a += y, b ^= y, c += y, d ^= y, e += y, f ^= y;
      __asm__ volatile("" : "+r"(x), "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
      a += y, b ^= y;
      __asm__ volatile("" : "+r"(a), "+r"(b));
    }
    const double took = ac_now_ns() - begin;
    if (took < best) best = took;
  }
  return best;
}

/* How often another program has taken this thread's CPU. */
static inline int64_t ac_interruptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

#endif
