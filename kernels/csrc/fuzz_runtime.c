/* A libFuzzer target: load a file, and if it is a network run it once. benchmarks/fuzz.py builds and runs it.
 *
 * The checksum and the length in the header are made right first: else nothing behind them would ever be reached. The runtime itself is
 * built as it always is, with sanitizers, under which every step of a run sees only its own memory (show_only in runtime.c). */
#define _POSIX_C_SOURCE 200112L
#include <stdlib.h>
#include <string.h>

#include "autocompress.h"
#include "checksum.h"

/* A network that takes longer is only loaded: time belongs to other files. */
#define MOST_WORK 3e6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* Of exactly its size, so that reads behind its end are found. */
  void *copy = NULL;
  if (posix_memalign(&copy, 64, size) != 0) return 0;
  memcpy(copy, data, size);
  if (size >= 24) {
    const uint64_t bytes = size;
    memcpy((char *)copy + 16, &bytes, sizeof bytes);
    const uint32_t checksum = ac_crc32((char *)copy + 16, size - 16);
    memcpy((char *)copy + 12, &checksum, sizeof checksum);
  }
  ac_model *model;
  char error[AC_ERROR_BYTES];
  if (ac_load_memory(copy, size, &model, error) == AC_OK) {
    if (ac_work(model) <= MOST_WORK) {
      float *input = malloc((size_t)ac_input_size(model) * sizeof *input);
      float *output = malloc((size_t)ac_output_size(model) * sizeof *output);
      for (int64_t i = 0; i < ac_input_size(model); i++) input[i] = (float)(i % 7 - 3) * 0.25f;
      ac_run(model, input, output);
      free(input);
      free(output);
    }
    ac_free(model);
  }
  free(copy);
  return 0;
}
