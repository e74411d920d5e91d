/* The sentinel: how fast this CPU runs just now.
 *
 * A chain of dependent integer operations, which takes the same number of cycles whatever the caches hold: its time is the clock's.
 * Beside each link of the chain there are stores, loads and additions, as many as a fast core gets done in its latency. They cost
 * nothing while the core is ours. A neighbour on the same core, as another hardware thread, takes units, queues and slots of the
 * front end from them: the sentinel slows down as kernels do, though the clock is the same. Memory operations matter: without them
 * the sentinel is as fast as ever beside neighbours that slow kernels down by a half.
 *
 * It is short, so that it can stand beside every sample: neighbours come and go within a millisecond. */
#ifndef AC_SENTINEL_H
#define AC_SENTINEL_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

/* A time that is longer than this times the fastest was taken at a slower clock, or beside a neighbour. */
#define AC_SENTINEL_TOLERANCE 1.015
/* Samples that count, at least. */
#define AC_FEWEST 11
/* The sentinel of a sample in which another program took the CPU, in ns. */
#define AC_INTERRUPTED 1e9

static inline double ac_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ns that 20000 links of the chain take, by a fifth of them. */
static inline double ac_sentinel_ns(void) {
  volatile uint64_t memory[6] = {0};
  uint64_t x = 1, y = 3, a = 0, b = 0;
  __asm__ volatile("" : "+r"(y)); /* else the compiler knows the sums */
  const double begin = ac_now_ns();
  for (int k = 0; k < 4000; k++) {
    x = x * 0x2545f4914f6cdd1du + 1;
    memory[0] = y, memory[1] = y, memory[2] = y, memory[3] = y;
    a += memory[4], b ^= memory[5];
    a += y, b ^= y;
    __asm__ volatile("" : "+r"(x), "+r"(a), "+r"(b));
    a += y, b ^= y;
    __asm__ volatile("" : "+r"(x), "+r"(a), "+r"(b));
  }
  return (ac_now_ns() - begin) * 5.0;
}

/* How often another program has taken this thread's CPU. */
static inline int64_t ac_interruptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

typedef struct {
  double time;  /* what was measured */
  double clock; /* the slower sentinel of the two beside it in ns, or AC_INTERRUPTED */
} ac_sample;

static inline int ac_by_clock(const void *a, const void *b) {
  const double x = ((const ac_sample *)a)->clock, y = ((const ac_sample *)b)->clock;
  return (x > y) - (x < y);
}

static inline int ac_by_time(const void *a, const void *b) {
  const double x = ((const ac_sample *)a)->time, y = ((const ac_sample *)b)->time;
  return (x > y) - (x < y);
}

/* Which samples count: those beside which the sentinel was as fast as `fastest`, or the AC_FEWEST beside which it was fastest.
 * They are put first, in the order of their times.
 *
 * clock: where to put the slowest sentinel beside them.
 * Returns their number. */
static inline int64_t ac_choose(ac_sample *samples, int64_t count, double fastest, double *clock) {
  int64_t kept = 0;
  qsort(samples, (size_t)count, sizeof *samples, ac_by_clock);
  while (kept < count && (kept < AC_FEWEST || samples[kept].clock <= AC_SENTINEL_TOLERANCE * fastest)) kept++;
  *clock = samples[kept - 1].clock;
  qsort(samples, (size_t)kept, sizeof *samples, ac_by_time);
  return kept;
}

#endif
