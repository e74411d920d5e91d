/* Runs a compressed network: ./example model.acm < input.bin. Floats are read from stdin, and the largest output is printed.
 * cc example.c libautocompress.a -lm -o example */
#include <stdio.h>
#include <stdlib.h>

#include "autocompress.h"

int main(int argc, char **argv) {
  ac_model *model;
  char error[AC_ERROR_BYTES];
  if (argc != 2) return 2;
  if (ac_load(argv[1], &model, error) != AC_OK) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  const size_t inputs = (size_t)ac_input_size(model), outputs = (size_t)ac_output_size(model);
  float *input = malloc(inputs * sizeof *input), *output = malloc(outputs * sizeof *output);
  if (input == NULL || output == NULL || fread(input, sizeof *input, inputs, stdin) != inputs) {
    fprintf(stderr, "the input needs %zu floats\n", inputs);
    return 1;
  }
  ac_run(model, input, output); /* as often as needed: it allocates nothing */
  size_t best = 0;
  for (size_t i = 1; i < outputs; i++)
    if (output[i] > output[best]) best = i;
  printf("%zu %g\n", best, (double)output[best]);
  free(input);
  free(output);
  ac_free(model);
  return 0;
}
