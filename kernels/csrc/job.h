/* Job files: kernels to run, with all their arguments. For programs that run kernels on a machine that Python cannot reach.
 *
 * A file is one job after the other, each, little-endian and without gaps:
 *   char[8]   "ACJOB001"
 *   char[32]  name of the kernel, filled up with zeros
 *   int64[28] the integers of ac_problem, in its order
 *   float[6]  the reals of ac_problem
 *   int64[8]  bytes of the buffers: weights, bias, scale, start, counts, indices, x, x2
 *   the buffers
 * y is not in the file: its length follows from the problem (ac_required).
 *
 * A file is not trusted: ac_job_read checks all of it, and gives every buffer memory of exactly its size.
 */
#ifndef AC_JOB_H
#define AC_JOB_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ac_kernels.h"

enum { AC_JOB_BUFFERS = 8 };

typedef struct {
  const ac_kernel *kernel;
  ac_problem problem; /* its pointers are set */
  void *buffers[AC_JOB_BUFFERS];
  int32_t *offsets;
  const void *x, *x2;
  void *y, *scratch;
  int64_t y_bytes;
} ac_job;

static void ac_job_free(ac_job *job) {
  for (int i = 0; i < AC_JOB_BUFFERS; i++) free(job->buffers[i]);
  free(job->offsets);
  free(job->y);
  free(job->scratch);
  *job = (ac_job){0};
}

static void *ac_job_memory(int64_t bytes) {
  /* Never NULL for no bytes; aligned for any vector. */
  void *memory = NULL;
  return posix_memalign(&memory, 64, (size_t)bytes + (bytes == 0)) == 0 ? memory : NULL;
}

/* Read the next job of a file into *job. Returns NULL if there was one, "" at the end of the file, else what is wrong; then there
 * is nothing to free. */
static const char *ac_job_read(FILE *file, ac_job *job) {
  enum { INTEGERS = (int)(offsetof(ac_problem, low) / sizeof(int64_t)) };
  enum { REALS = (int)((offsetof(ac_problem, weights) - offsetof(ac_problem, low)) / sizeof(float)) };
  char magic[8], name[32];
  int64_t bytes[AC_JOB_BUFFERS];
  *job = (ac_job){0};
  ac_problem *p = &job->problem;
  const size_t got = fread(magic, 1, sizeof magic, file);
  if (got == 0 && feof(file)) return "";
  if (got != sizeof magic || memcmp(magic, "ACJOB001", sizeof magic) != 0) return "not a job";
  if (fread(name, sizeof name, 1, file) != 1 || fread(p, sizeof(int64_t), INTEGERS, file) != INTEGERS ||
      fread(&p->low, sizeof(float), REALS, file) != REALS || fread(bytes, sizeof bytes, 1, file) != 1)
    return "a job ends too early";
  if (name[sizeof name - 1] != 0 || (job->kernel = ac_find(name)) == NULL) return "unknown kernel";

  const char *wrong = NULL;
  for (int i = 0; i < AC_JOB_BUFFERS && wrong == NULL; i++) {
    if (bytes[i] < 0 || bytes[i] > (int64_t)1 << 30)
      wrong = "a buffer is too large";
    else if ((job->buffers[i] = ac_job_memory(bytes[i])) == NULL)
      wrong = "out of memory";
    else if (fread(job->buffers[i], 1, (size_t)bytes[i], file) != (size_t)bytes[i])
      wrong = "a job ends too early";
  }
  if (wrong == NULL) {
    p->weights = job->buffers[0];
    p->bias = job->buffers[1];
    p->scale = job->buffers[2];
    p->start = job->buffers[3];
    p->counts = job->buffers[4];
    job->x = job->buffers[6];
    job->x2 = job->buffers[7];
    const int64_t blocks = bytes[5] / (int64_t)sizeof(int32_t);
    ac_lengths lengths = {bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], 0};
    /* The length of y is ours to choose: what the problem needs, once its sizes are known to be in range. */
    wrong = ac_validate_sizes(job->kernel, p);
    if (wrong == NULL) {
      lengths.y = job->y_bytes = ac_required(job->kernel, p, blocks).y;
      wrong = ac_validate(job->kernel, p, &lengths, job->buffers[5]);
    }
    if (wrong == NULL) {
      job->offsets = ac_job_memory(ac_offset_count(job->kernel, p, blocks) * (int64_t)sizeof(int32_t));
      job->y = ac_job_memory(job->y_bytes);
      job->scratch = ac_job_memory(ac_scratch_bytes(job->kernel, p));
      if (job->offsets == NULL || job->y == NULL || job->scratch == NULL) wrong = "out of memory";
    }
    if (wrong == NULL) {
      ac_offsets(job->kernel, p, job->buffers[5], blocks, job->offsets);
      p->offsets = job->offsets;
    }
  }
  if (wrong != NULL) ac_job_free(job);
  return wrong;
}

static inline void ac_job_run(const ac_job *job) {
  job->kernel->run(&job->problem, job->x, job->x2, job->y, job->scratch);
}

#endif
