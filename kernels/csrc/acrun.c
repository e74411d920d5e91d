/* acrun MODEL [INPUT OUTPUT] [--profile] [--repeat N] [--cpu N] [--json]: run a model file, and time it.
 *
 * INPUT holds the floats of one sample, little-endian, planar; OUTPUT is written likewise. Without them the input is 0.5 everywhere.
 * After one run that is not counted, the network is run N times (1 by default): the median is printed, with the 10th and 90th
 * percentile. Beside each run the sentinel (sentinel.h) tells how fast the CPU is: a run waits while it is slow, for a run's time at most, and runs
 * count as samples of a row do (bench.c). --profile runs the network N times more and times
 * every step; the clock is read around each, which takes about 0.05 us a step. A neighbour that comes and goes within a run is
 * seen in some steps and not in others, so a step is its own sentinel: those of its times count which are at most 3 % above their 5th
 * percentile.
 * --cpu pins the program to one CPU. With --json every line is a JSON object:
 *   {"acrun": 1, "machine": "aarch64", "cpu": 7, "vdso": true, "steps": 40, "peak_bytes": 1204224, "load_us": 310.2}
 *   {"run": {"us": 812.5, "low": 810.0, "high": 840.2}, "repeat": 100, "counted": 97, "sentinel": 24666}
 *   {"step": 0, "name": "stem", "kernel": "s8_dense", "us": 40.1, "low": 39.9, "high": 41.0}       with --profile
 * cpu is -1 where it was not chosen; `counted` is the number of runs that count, `sentinel` its slowest time beside them in ns. Exit
 * code 0, or 1 with a message. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "autocompress.h"
#include "sentinel.h"

#define MOST_REPEATS 1000000
#define MOST_TIMES ((int64_t)1 << 26)
#define STEADY 1.03 /* times of a step that count, over their 5th percentile */

static _Noreturn void fail(const char *message, const char *what) {
  fflush(stdout);
  fprintf(stderr, "acrun: %s%s\n", message, what);
  exit(1);
}

static int64_t number(const char *text, int64_t least, int64_t most, const char *option) {
  char *end;
  if (text == NULL) fail("a number is missing after ", option);
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || value < least || value > most) fail("out of range: ", option);
  return value;
}

static void *allocate(int64_t count, size_t size) {
  void *memory = calloc((size_t)count, size);
  if (memory == NULL) fail("out of memory", "");
  return memory;
}

static void read_floats(const char *path, float *values, int64_t count) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail("cannot open ", path);
  if (fread(values, sizeof *values, (size_t)count, file) != (size_t)count || fgetc(file) != EOF)
    fail("the input has another size than the model takes: ", path);
  fclose(file);
}

static void write_floats(const char *path, const float *values, int64_t count) {
  FILE *file = fopen(path, "wb");
  if (file == NULL) fail("cannot write ", path);
  const int whole = fwrite(values, sizeof *values, (size_t)count, file) == (size_t)count;
  if (fclose(file) != 0 || !whole) fail("cannot write ", path);
}

/* A name as the inside of a JSON string, and harmless to a terminal. */
static void print_name(const char *name) {
  for (const unsigned char *c = (const unsigned char *)name; *c != 0; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 32 || *c == 127)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
}

static int ascending(const void *a, const void *b) {
  const double one = *(const double *)a, two = *(const double *)b;
  return (one > two) - (one < two);
}

typedef struct {
  double us, low, high;
} timing;

/* Of the times of a step; sorts them. */
static timing step_timing(double *times, int64_t count) {
  qsort(times, (size_t)count, sizeof *times, ascending);
  int64_t kept = 0;
  while (kept < count && times[kept] <= STEADY * times[count / 20]) kept++;
  return (timing){times[kept / 2], times[kept / 10], times[kept - 1 - kept / 10]};
}

int main(int argc, char **argv) {
  const char *files[3] = {NULL, NULL, NULL};
  int given = 0, profile = 0, json = 0;
  int64_t repeat = 1, cpu = -1;
  double fastest = INFINITY;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--profile") == 0)
      profile = 1;
    else if (strcmp(argv[i], "--json") == 0)
      json = 1;
    else if (strcmp(argv[i], "--repeat") == 0)
      repeat = number(argv[++i], 1, MOST_REPEATS, "--repeat");
    else if (strcmp(argv[i], "--cpu") == 0)
      cpu = number(argv[++i], 0, CPU_SETSIZE - 1, "--cpu");
    else if (given < 3 && strncmp(argv[i], "--", 2) != 0)
      files[given++] = argv[i];
    else
      fail("do not understand ", argv[i]);
  }
  if (given != 1 && given != 3)
    fail("usage: acrun MODEL [INPUT OUTPUT] [--profile] [--repeat N] [--cpu N] [--json]", "");
  if (cpu >= 0) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET((size_t)cpu, &only);
    if (sched_setaffinity(0, sizeof only, &only) != 0) fail("cannot be pinned to that CPU", "");
  }

  ac_model *model;
  char error[AC_ERROR_BYTES];
  const double begin = ac_now_ns();
  if (ac_load(files[0], &model, error) != AC_OK) fail(error, "");
  const double loaded = (ac_now_ns() - begin) * 1e-3;
  const int64_t steps = ac_step_count(model), inputs = ac_input_size(model);
  if (profile && steps * repeat > MOST_TIMES) fail("too many repetitions for a profile", "");
  float *source = allocate(inputs, sizeof *source), *input = allocate(inputs, sizeof *input), *output = allocate(ac_output_size(model), sizeof *output);
  double *every = allocate(profile ? steps * repeat : 1, sizeof *every), *once = allocate(steps, sizeof *once);
  ac_sample *runs = allocate(repeat, sizeof *runs);
  for (int64_t i = 0; i < inputs; i++) source[i] = 0.5f;
  if (given == 3) read_floats(files[1], source, inputs);

  memcpy(input, source, (size_t)inputs * sizeof *input);
  ac_run(model, input, output);
  double time = 0.0; /* of the last run */
  for (int64_t n = 0; n < repeat; n++) {
    memcpy(input, source, (size_t)inputs * sizeof *input); /* as an app that has just made it */
    const double end = ac_now_ns() + time;
    double before;
    do {
      before = ac_sentinel_ns();
      if (before < fastest) fastest = before;
    } while (before > AC_SENTINEL_TOLERANCE * fastest && ac_now_ns() < end);
    const int64_t interruptions = ac_interruptions();
    const double start = ac_now_ns();
    ac_run(model, input, output);
    time = ac_now_ns() - start;
    const double after = ac_sentinel_ns();
    if (after < fastest) fastest = after;
    const double clock = ac_interruptions() != interruptions ? AC_INTERRUPTED : after > before ? after : before;
    runs[n] = (ac_sample){time * 1e-3, clock};
    if (!profile) continue;
    memcpy(input, source, (size_t)inputs * sizeof *input);
    ac_profile(model, input, output, once);
    for (int64_t i = 0; i < steps; i++) every[i * repeat + n] = once[i];
  }
  double clock;
  const int64_t kept = ac_choose(runs, repeat, fastest, &clock);
  if (given == 3) write_floats(files[2], output, ac_output_size(model));

  const timing whole = {runs[kept / 2].time, runs[kept / 10].time, runs[kept - 1 - kept / 10].time};
  if (json) {
#if defined(__aarch64__)
    const char *machine = "aarch64";
#else
    const char *machine = "x86_64";
#endif
    /* Every Linux kernel gives 64-bit programs a vDSO; user-mode emulators do not, or only lately. */
    printf("{\"acrun\": 1, \"machine\": \"%s\", \"cpu\": %lld, \"vdso\": %s, \"steps\": %lld, \"peak_bytes\": %lld, \"load_us\": %.1f}\n",
           machine, (long long)cpu, getauxval(AT_SYSINFO_EHDR) ? "true" : "false", (long long)steps,
           (long long)ac_peak_bytes(model), loaded);
    printf("{\"run\": {\"us\": %.2f, \"low\": %.2f, \"high\": %.2f}, \"repeat\": %lld, \"counted\": %lld, \"sentinel\": %.0f}\n",
           whole.us, whole.low, whole.high, (long long)repeat, (long long)kept, clock);
  } else if (profile) {
    printf("%5s  %12s  %7s  %-20s %s\n", "step", "us", "share", "kernel", "name");
  }
  for (int64_t i = 0; profile && i < steps; i++) {
    const timing own = step_timing(every + i * repeat, repeat);
    if (json) {
      printf("{\"step\": %lld, \"name\": \"", (long long)i);
      print_name(ac_step_name(model, i));
      printf("\", \"kernel\": \"%s\", \"us\": %.2f, \"low\": %.2f, \"high\": %.2f}\n", ac_step_kernel(model, i), own.us, own.low,
             own.high);
    } else {
      printf("%5lld  %12.2f  %5.1f %%  %-20s ", (long long)i, own.us, 100.0 * own.us / whole.us, ac_step_kernel(model, i));
      print_name(ac_step_name(model, i));
      putchar('\n');
    }
  }
  if (!json)
    printf("total  %10.2f us (%.2f to %.2f), median of %lld runs; %lld steps, %.2f MB of activations\n", whole.us, whole.low,
           whole.high, (long long)kept, (long long)steps, (double)ac_peak_bytes(model) / 1e6);
  free(source), free(input), free(output), free(every), free(once), free(runs);
  ac_free(model);
  return fflush(stdout) == 0 ? 0 : 1;
}
