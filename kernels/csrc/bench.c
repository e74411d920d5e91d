/* bench JOBS CPU CACHE MILLISECONDS REFERENCE: time kernels on one pinned CPU; or `bench list`: say which kernels there are.
 *
 * Prints lines of JSON, each as soon as it is known. The first says what this program and its CPU are. Then one for every job:
 *   {"job": 3, "ns": 812.5, "low": 810.0, "high": 840.2, "repetitions": 640, "sentinel": 24740}
 * ns is the median of one call, low and high its 10th and 90th percentile. A job that cannot be run has "error" instead.
 *
 * A job is a line of the file JOBS, words apart by blanks:
 *   kernel zeros groups  then the integers and then the reals of ac_problem, in its order
 * `zeros` of 1 is the share of blocks that a sparse kernel leaves out, at random places; with groups > 1 a row's blocks are those of
 * its group. Weights and inputs are random: normal numbers, no zeros among them.
 *
 * Rows of a table have to add up to the time of a network, so memory is as it is there:
 *   - weights were last read one inference ago, and other weights since: calls go round copies of all that a kernel reads and
 *     writes, which together take at least CACHE bytes (twice the L2 cache), so that weights and outputs come from beyond L2;
 *   - the input was written just before by another op: each input is written again before the clock starts;
 *   - every copy has zeros at other places: a CPU that saw the same ones just before would foresee a sparse kernel's branches;
 *   - scratch is one for all ops of a network: there is one copy.
 * A call that is too short for the clock is timed together with the calls on the following copies.
 *
 * The sentinel (sentinel.h) tells how fast the CPU is. It is run before and after every sample. Samples count beside which it took
 * at most 1.5 % longer than its fastest so far (to begin with REFERENCE, the fastest of earlier runs in ns, or 0), and in which
 * the system did not give the CPU to another program; where they are less than 11, the 11 beside which it was fastest.
 * `sentinel` is its slowest time beside the samples that count, in ns. Samples are taken for MILLISECONDS, none while the sentinel is
 * slow, until 201 count; then 11 are filled up.
 */
#define _GNU_SOURCE
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "ac_kernels.h"
#include "sentinel.h"

#define LARGEST ((int64_t)1 << 31)
#define COPIES 512
#define SAMPLES (1 << 15)
#define ENOUGH 201 /* samples that count */
#define SHORTEST 20e3 /* ns that a sample takes at least */
#define ALIGNED(size) (((size) + 63) / 64 * 64)

static const int32_t INTEGERS = offsetof(ac_problem, low) / sizeof(int64_t);
static const int32_t REALS = (offsetof(ac_problem, weights) - offsetof(ac_problem, low)) / sizeof(float);

static _Noreturn void fail(const char *message, const char *what) {
  fflush(stdout);
  fprintf(stderr, "bench: %s%s\n", message, what);
  exit(1);
}

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t random64(void) { /* xorshift64*: the same jobs have the same weights on every machine */
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 0x2545f4914f6cdd1du;
}

static void *allocate(int64_t size) {
  void *memory = aligned_alloc(64, (size_t)ALIGNED(size + 1));
  if (memory == NULL) fail("out of memory", "");
  return memory;
}

/* Numbers between 1/2 and 2 and their negatives, or bytes in [-127, 127]. */
static void fill(void *memory, int64_t size, ac_type type) {
  if (type == AC_F32) {
    uint32_t *words = memory;
    for (int64_t i = 0; i < size / 4; i++) words[i] = ((uint32_t)(random64() >> 32) & 0x80ffffffu) + 0x3f000000u;
  } else if (type == AC_F16) {
    uint16_t *words = memory;
    for (int64_t i = 0; i < size / 2; i++) words[i] = (uint16_t)(((uint32_t)(random64() >> 48) & 0x87ffu) + 0x3800u);
  } else {
    int8_t *bytes = memory;
    for (int64_t i = 0; i < size; i++) bytes[i] = (int8_t)((int64_t)(random64() >> 56) % 255 - 127);
  }
}

typedef struct {
  ac_problem problem;
  void *x, *x2, *y;
} set;

typedef struct {
  const ac_kernel *kernel;
  ac_problem problem;
  int32_t *counts, *indices, *offsets;
  double zeros;
  int64_t groups, blocks, copies, set_bytes;
  ac_lengths lengths;
  char *arena;
  set *sets;
  void *scratch, *source;
} job;

/* Which blocks a sparse matrix keeps: exactly the wanted share of those that its groups allow, at random places, others each time. */
static void choose_blocks(job *j) {
  const ac_problem *p = &j->problem;
  const int64_t br = j->kernel->block_rows, bc = j->kernel->block_columns;
  const int64_t rows = (p->rows + 3) / 4 * 4 / br, columns = (p->columns + bc - 1) / bc;
  const int64_t window = p->kernel_height * p->kernel_width, total = rows * columns * window;
  if (total >= LARGEST) fail("a job is too large", "");
  if (j->counts == NULL) j->counts = allocate(rows * (int64_t)sizeof(int32_t));
  if (j->indices == NULL) j->indices = allocate(total * (int64_t)sizeof(int32_t));
  j->blocks = 0;
  const int64_t group_rows = (p->rows + j->groups - 1) / j->groups, group_columns = (p->columns + j->groups - 1) / j->groups;
  int64_t left = 0, wanted = -1;
  for (int pass = 0; pass < 2; pass++) {
    for (int64_t r = 0; r < rows; r++) {
      const int64_t last_row = (r * br + br < p->rows ? r * br + br : p->rows) - 1;
      if (pass == 1) j->counts[r] = 0;
      for (int64_t w = 0; w < window; w++)
        for (int64_t c = 0; c < columns; c++) {
          const int64_t last_column = (c * bc + bc < p->columns ? c * bc + bc : p->columns) - 1;
          if (r * br >= p->rows || last_row / group_rows < c * bc / group_columns ||
              r * br / group_rows > last_column / group_columns)
            continue;
          if (pass == 0) {
            left++;
          } else if ((double)(random64() >> 11) * 0x1p-53 * (double)left-- < (double)wanted) {
            wanted--;
            j->counts[r]++;
            j->indices[j->blocks++] = (int32_t)(w * columns + c);
          }
        }
    }
    if (pass == 0) wanted = (int64_t)llround((double)left * (1.0 - j->zeros));
  }
}

/* What a gather reads: x across its channels, as a permutation would. */
static void choose_elements(job *j) {
  const ac_lengths n = ac_required(j->kernel, &j->problem, 0);
  const int64_t size = j->kernel->x_type == AC_F32 ? 4 : j->kernel->x_type == AC_F16 ? 2 : 1;
  const int64_t elements = n.x / size, plane = j->problem.x_plane, planes = elements / plane;
  j->blocks = n.indices / (int64_t)sizeof(int32_t);
  j->indices = allocate(n.indices);
  for (int64_t i = 0; i < j->blocks; i++) j->indices[i] = (int32_t)((i % planes * plane + i / planes % plane) % elements);
}

/* Parse a line; NULL, or what is wrong with it. */
static const char *read_job(char *line, job *j) {
  memset(j, 0, sizeof *j);
  char *word = strtok(line, " \n");
  j->kernel = word ? ac_find(word) : NULL;
  if (j->kernel == NULL) return "no such kernel";
  int64_t *integers = (int64_t *)&j->problem;
  float *reals = &j->problem.low;
  for (int32_t i = -2; i < INTEGERS + REALS; i++) {
    char *end;
    word = strtok(NULL, " \n");
    if (word == NULL) return "too few numbers";
    if (i == -2) j->zeros = strtod(word, &end);
    else if (i == -1) j->groups = strtoll(word, &end, 10);
    else if (i < INTEGERS) integers[i] = strtoll(word, &end, 10);
    else reals[i - INTEGERS] = strtof(word, &end);
    if (*end != 0) return "not a number";
  }
  if (strtok(NULL, " \n") != NULL) return "too many numbers";
  if (!(j->zeros >= 0.0 && j->zeros < 1.0) || j->groups < 1) return "zeros or groups out of range";
  return ac_validate_sizes(j->kernel, &j->problem);
}

static void *part(char **at, int64_t size) {
  char *here = *at;
  *at += ALIGNED(size);
  return size ? here : NULL;
}

/* Weights, inputs and outputs: as many copies as exceed the cache. */
static const char *make_sets(job *j, int64_t cache) {
  const ac_kernel *k = j->kernel;
  j->problem.counts = j->counts;
  j->lengths = ac_required(k, &j->problem, j->blocks);
  const char *wrong = ac_validate(k, &j->problem, &j->lengths, j->indices);
  if (wrong != NULL) return wrong;
  const ac_lengths *n = &j->lengths;
  const int64_t offsets = ac_offset_count(k, &j->problem, j->blocks) * (int64_t)sizeof(int32_t);
  const int64_t sizes[] = {n->weights, n->bias, n->scale, n->start, n->counts, offsets, n->x, n->x2, n->y};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) j->set_bytes += ALIGNED(sizes[i]);
  j->copies = (cache + j->set_bytes - 1) / j->set_bytes;
  if (j->copies > COPIES) j->copies = COPIES;
  j->arena = allocate(j->copies * j->set_bytes);
  j->sets = calloc((size_t)j->copies, sizeof(set));
  j->scratch = allocate(ac_scratch_bytes(k, &j->problem));
  j->offsets = allocate(offsets);
  j->source = allocate(n->x > n->x2 ? n->x : n->x2);
  if (j->sets == NULL) fail("out of memory", "");
  memset(j->scratch, 0, (size_t)ac_scratch_bytes(k, &j->problem));
  ac_offsets(k, &j->problem, j->indices, j->blocks, j->offsets);
  fill(j->source, n->x > n->x2 ? n->x : n->x2, k->x_type);
  char *at = j->arena;
  for (int64_t i = 0; i < j->copies; i++) {
    set *s = &j->sets[i];
    s->problem = j->problem;
    ac_problem *p = &s->problem;
    p->weights = part(&at, n->weights);
    p->bias = part(&at, n->bias);
    p->scale = part(&at, n->scale);
    p->start = part(&at, n->start);
    p->counts = part(&at, n->counts);
    p->offsets = part(&at, offsets);
    s->x = part(&at, n->x);
    s->x2 = part(&at, n->x2);
    s->y = part(&at, n->y);
    if (n->weights) fill((void *)p->weights, n->weights, k->x_type);
    if (n->bias) memset((void *)p->bias, 0, (size_t)n->bias);
    for (int64_t r = 0; r < n->scale / 4; r++) ((float *)p->scale)[r] = 1e-4f;
    if (n->start) memset((void *)p->start, 0, (size_t)n->start);
    if (k->sparse && i > 0) {
      choose_blocks(j);
      ac_offsets(k, &j->problem, j->indices, j->blocks, j->offsets);
    }
    if (n->counts) memcpy((void *)p->counts, j->counts, (size_t)n->counts);
    if (offsets) memcpy((void *)p->offsets, j->offsets, (size_t)offsets);
    if (n->y) memset(s->y, 0, (size_t)n->y);
  }
  return NULL;
}

static void free_job(job *j) {
  free(j->counts), free(j->indices), free(j->offsets), free(j->arena), free(j->sets), free(j->scratch), free(j->source);
}

/* ns of a call, over `calls` calls on the copies from `first` on. */
static double sample(job *j, int64_t first, int64_t calls) {
  for (int64_t i = 0; i < calls; i++) {
    set *s = &j->sets[(first + i) % j->copies];
    if (s->x) memcpy(s->x, j->source, (size_t)j->lengths.x);
    if (s->x2) memcpy(s->x2, j->source, (size_t)j->lengths.x2);
  }
  __asm__ volatile("" ::: "memory");
  const double begin = ac_now_ns();
  for (int64_t i = 0; i < calls; i++) {
    set *s = &j->sets[(first + i) % j->copies];
    j->kernel->run(&s->problem, s->x, s->x2, s->y, j->scratch);
    __asm__ volatile("" ::: "memory");
  }
  return (ac_now_ns() - begin) / (double)calls;
}

static double fastest = INFINITY;

static double watched_sentinel(void) {
  const double took = ac_sentinel_ns();
  if (took < fastest) fastest = took;
  return took;
}

static void time_job(int64_t number, job *j, double milliseconds) {
  static ac_sample samples[SAMPLES];
  int64_t count = 0, next = 0, calls = 1;
  for (int i = 0; i < 3; i++) sample(j, next++, 1); /* warms up code and scratch */
  for (double once = INFINITY; calls < j->copies; once = INFINITY, calls *= 2) {
    for (int i = 0; i < 5; i++, next += calls) {
      const double took = sample(j, next, calls);
      if (took < once) once = took;
    }
    if (once * (double)calls >= SHORTEST) break;
  }
  if (calls > j->copies) calls = j->copies;
  const double end = ac_now_ns() + milliseconds * 1e6;
  double before = watched_sentinel();
  for (int64_t quiet = 0; count < SAMPLES && quiet < ENOUGH && (count < AC_FEWEST || ac_now_ns() < end); count++, next += calls) {
    while (before > AC_SENTINEL_TOLERANCE * fastest && ac_now_ns() < end) before = watched_sentinel();
    const int64_t interruptions = ac_interruptions();
    const double time = sample(j, next, calls), after = watched_sentinel();
    const double clock = ac_interruptions() != interruptions ? AC_INTERRUPTED : after > before ? after : before;
    samples[count] = (ac_sample){time, clock};
    quiet += clock <= AC_SENTINEL_TOLERANCE * fastest;
    before = after;
  }
  double clock;
  const int64_t kept = ac_choose(samples, count, fastest, &clock);
  printf("{\"job\": %lld, \"ns\": %.2f, \"low\": %.2f, \"high\": %.2f, \"repetitions\": %lld, \"sentinel\": %.0f}\n",
         (long long)number, samples[kept / 2].time, samples[kept / 10].time, samples[kept - 1 - kept / 10].time,
         (long long)(kept * calls), clock);
}

static void print_header(long cpu) {
#if defined(__aarch64__)
  const char *machine = "aarch64";
#elif defined(__x86_64__)
  const char *machine = "x86_64";
#else
  const char *machine = "unknown";
#endif
  /* Every Linux kernel gives 64-bit programs a vDSO; user-mode emulators do not, or only lately. */
  printf("{\"bench\": 1, \"machine\": \"%s\", \"cpu\": %ld, \"vdso\": %s, \"i8mm\": %s, \"kernels\": [", machine, cpu,
         getauxval(AT_SYSINFO_EHDR) ? "true" : "false", ac_uses_i8mm() ? "true" : "false");
  for (int64_t i = 0; i < ac_kernel_count; i++) printf("%s\"%s\"", i ? ", " : "", ac_kernels[i].name);
  printf("]}\n");
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    print_header(-1);
    return 0;
  }
  if (argc != 6) fail("usage: bench JOBS CPU CACHE MILLISECONDS REFERENCE, or bench list", "");
  const long cpu = strtol(argv[2], NULL, 10);
  const int64_t cache = strtoll(argv[3], NULL, 10);
  const double milliseconds = strtod(argv[4], NULL), reference = strtod(argv[5], NULL);
  if (cpu < 0 || cpu >= CPU_SETSIZE || cache < 1 || cache > LARGEST || !(milliseconds >= 0.0) || !(reference >= 0.0))
    fail("arguments out of range", "");
  FILE *file = fopen(argv[1], "r");
  if (file == NULL) fail("cannot open ", argv[1]);
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET((size_t)cpu, &only);
  if (sched_setaffinity(0, sizeof only, &only) != 0) fail("cannot be pinned to CPU ", argv[2]);
  print_header(cpu);

  if (reference > 0.0) fastest = reference;
  const double warm = ac_now_ns() + 3e8;
  while (ac_now_ns() < warm) watched_sentinel();
  char line[4096];
  for (int64_t number = 0; fgets(line, sizeof line, file) != NULL; number++) {
    job j;
    const char *wrong = read_job(line, &j);
    if (wrong == NULL && j.kernel->sparse) choose_blocks(&j);
    if (wrong == NULL && j.kernel->op == AC_GATHER) choose_elements(&j);
    if (wrong == NULL) wrong = make_sets(&j, cache);
    if (wrong != NULL) printf("{\"job\": %lld, \"error\": \"%s\"}\n", (long long)number, wrong);
    else time_job(number, &j, milliseconds);
    if (fflush(stdout) != 0) return 1;
    free_job(&j);
  }
  fclose(file);
  return 0;
}
