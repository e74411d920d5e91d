/* check CASE OUTPUT: run one kernel on the arguments in a file and write what it computes to another.
 *
 * This is how a build for another machine, or one with sanitizers, is compared with the reference. The case is not
 * trusted: every size, count and offset is checked before the kernel runs. Exit code 0, or 1 with a message.
 *
 * A case, little-endian:
 *   int64 magic, kernel (index in KERNELS), rows, columns, pixels, x_plane, y_plane, blocks, y_zero_point
 *   double low, high
 *   weights, bias, [multiplier, shift: s8 only], counts[], offsets[blocks] (both empty for dense), x
 * with the arrays as ac_kernels.h and the kernels' files describe them; x is whole planes. The output is whole planes
 * of y, in which all that the kernel did not write is 0x55.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ac_kernels.h"

#define MAGIC 0x3143455341434341 /* "ACCASEC1" */
#define LARGEST ((int64_t)1 << 26)

typedef struct {
  int64_t magic, kernel, rows, columns, pixels, x_plane, y_plane, blocks, y_zero_point;
  double low, high;
} header;

typedef struct {
  void (*f32)(const ac_f32_problem *, const float *, float *);
  void (*s8)(const ac_s8_problem *, const int8_t *, int8_t *);
  int64_t block_rows, block_columns;
  int dense;
} kernel;

static const kernel KERNELS[] = {
    {ac_f32_dense, NULL, 4, 1, 1},        {ac_f32_block4x1, NULL, 4, 1, 0}, {ac_f32_unstructured, NULL, 1, 1, 0},
    {NULL, ac_s8_dense, 4, 4, 1},         {NULL, ac_s8_block4x4, 4, 4, 0},  {NULL, ac_s8_block1x4, 1, 4, 0},
};

static _Noreturn void fail(const char *message) {
  fprintf(stderr, "check: %s\n", message);
  exit(1);
}

static int between(int64_t low, int64_t value, int64_t high) { return low <= value && value <= high; }

/* The next array of the file, in memory of exactly its size so that a sanitizer sees any step beyond. */
static void *read_array(FILE *file, int64_t count, size_t size) {
  if (!between(0, count, LARGEST)) fail("an array is too large");
  void *array = malloc((size_t)count * size + (count == 0));
  if (array == NULL) fail("out of memory");
  if (fread(array, size, (size_t)count, file) != (size_t)count) fail("the case ends too early");
  return array;
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: check CASE OUTPUT");
  FILE *file = fopen(argv[1], "rb");
  if (file == NULL) fail("cannot open the case");

  header h;
  if (fread(&h, sizeof h, 1, file) != 1 || h.magic != MAGIC) fail("not a case");
  if (!between(0, h.kernel, (int64_t)(sizeof KERNELS / sizeof *KERNELS) - 1)) fail("unknown kernel");
  const kernel *k = &KERNELS[h.kernel];
  const int s8 = k->s8 != NULL;
  if (!between(1, h.rows, LARGEST) || !between(1, h.columns, LARGEST) || !between(1, h.pixels, LARGEST) ||
      !between(h.pixels, h.x_plane, LARGEST) || !between(h.pixels, h.y_plane, LARGEST) ||
      !between(0, h.blocks, LARGEST))
    fail("a size is out of range");
  const int64_t rows = (h.rows + 3) / 4 * 4, groups = rows / k->block_rows;
  const int64_t columns = (h.columns + k->block_columns - 1) / k->block_columns;
  const int64_t kept = k->dense ? groups * columns : h.blocks;
  const int64_t lanes = s8 ? 4 : 1, y_count = (s8 ? rows : h.rows) * h.y_plane;
  if (!between(0, y_count, LARGEST)) fail("the output is too large");

  void *weights = read_array(file, kept * k->block_rows * k->block_columns, s8 ? 1 : sizeof(float));
  void *bias = read_array(file, rows, 4);
  int32_t *multiplier = read_array(file, s8 ? rows : 0, sizeof(int32_t));
  int32_t *shift = read_array(file, s8 ? rows : 0, sizeof(int32_t));
  int32_t *counts = read_array(file, k->dense ? 0 : groups, sizeof(int32_t));
  int32_t *offsets = read_array(file, k->dense ? 0 : h.blocks, sizeof(int32_t));
  void *x = read_array(file, columns * h.x_plane * lanes, s8 ? 1 : sizeof(float));
  if (fgetc(file) != EOF) fail("the case goes on after its end");
  fclose(file);

  int64_t total = 0;
  for (int64_t i = 0; !k->dense && i < groups; i++) {
    if (!between(0, counts[i], columns)) fail("a count is out of range");
    total += counts[i];
  }
  if (!k->dense && total != h.blocks) fail("the counts do not add up to the blocks");
  for (int64_t i = 0; !k->dense && i < h.blocks; i++)
    if (!between(0, offsets[i], (columns - 1) * h.x_plane)) fail("an offset is out of range");
  for (int64_t i = 0; s8 && i < rows; i++)
    if (multiplier[i] < 0 || !between(31, shift[i], 62)) fail("a scale is out of range");

  void *y = malloc((size_t)y_count * (s8 ? 1 : sizeof(float)));
  if (y == NULL) fail("out of memory");
  memset(y, 0x55, (size_t)y_count * (s8 ? 1 : sizeof(float)));
  if (s8) {
    if (!between(-128, h.y_zero_point, 127) || !(h.low >= -128 && h.low <= h.high && h.high <= 127))
      fail("the output's range is not int8");
    const ac_s8_problem problem = {(size_t)h.rows,    (size_t)h.columns, (size_t)h.pixels,        (size_t)h.x_plane,
                                   (size_t)h.y_plane, weights,           bias,                    multiplier,
                                   shift,             counts,            offsets,                 (int32_t)h.y_zero_point,
                                   (int32_t)h.low,    (int32_t)h.high};
    k->s8(&problem, x, y);
  } else {
    const ac_f32_problem problem = {(size_t)h.rows, (size_t)h.columns, (size_t)h.pixels, (size_t)h.x_plane,
                                    (size_t)h.y_plane, weights, bias, counts, offsets, (float)h.low, (float)h.high};
    k->f32(&problem, x, y);
  }

  file = fopen(argv[2], "wb");
  if (file == NULL || fwrite(y, s8 ? 1 : sizeof(float), (size_t)y_count, file) != (size_t)y_count || fclose(file) != 0)
    fail("cannot write the output");
  free(weights), free(bias), free(multiplier), free(shift), free(counts), free(offsets), free(x), free(y);
  return 0;
}
