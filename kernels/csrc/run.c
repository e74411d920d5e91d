/* run JOBS OUTPUT: run every job of a file (job.h) once and write the outputs, one after the other, to another.
 *
 * This is how a build for another machine, or one with sanitizers, is compared with the reference. Whatever a kernel does not write
 * of an output is 0x55. Exit code 0, or 1 with a message.
 */
#define _POSIX_C_SOURCE 200112L
#include "job.h"

static _Noreturn void fail(const char *message) {
  fprintf(stderr, "run: %s\n", message);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: run JOBS OUTPUT");
  FILE *jobs = fopen(argv[1], "rb");
  if (jobs == NULL) fail("cannot open the jobs");
  FILE *output = fopen(argv[2], "wb");
  if (output == NULL) fail("cannot write the output");
  ac_job job;
  const char *wrong;
  while ((wrong = ac_job_read(jobs, &job)) == NULL) {
    memset(job.y, 0x55, (size_t)job.y_bytes);
    ac_job_run(&job);
    if (fwrite(job.y, 1, (size_t)job.y_bytes, output) != (size_t)job.y_bytes) fail("cannot write the output");
    ac_job_free(&job);
  }
  if (*wrong != 0) fail(wrong);
  fclose(jobs);
  if (fclose(output) != 0) fail("cannot write the output");
  return 0;
}
