/* int4 weights, dense: s8_dense.c with the weights unpacked first, or for a single pixel (a linear layer) in registers, where reading
 * half the bytes is what counts.
 *
 * Packing: the blocks of s8_dense.c taken in pairs, rows and columns padded with zeros to multiples of 4, and the number of
 * blocks of a group of 4 rows to a multiple of 2:
 *   weights[rows / 4][window * columns / 4 / 2][16]: byte i is (weight i of the first block & 15) | weight i of the second << 4
 */
#include "s8.h"

void ac_s8_dense(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch);

static inline i8x16 first_block(i8x16 pair) { return (i8x16)((u8x16)pair << 4) >> 4; }
static inline i8x16 second_block(i8x16 pair) { return pair >> 4; }

#define QUAD(n) AC_SPLAT(i32x4, *(const i32_memory *)(x + 4 * (n) * p->x_plane))

static void single_pixel(const ac_problem *p, const ac_view *view, const int8_t *x, void *y) {
  const ac_place place = ac_place_of(p, view, 0, 1);
  const int8_t *weights = p->weights;
  const int64_t quads = (p->columns + 3) / 4;
  for (int64_t row = 0; row < p->rows; row += 4) {
    i32x4 first = AC_LOAD(i32x4, p->start + row), second = {0};
    for (int64_t n = 0; n < quads; n += 2, weights += 16) {
      const i8x16 pair = AC_LOAD(i8x16, weights);
      first = dot4_i32x4(first, QUAD(n), (i32x4)first_block(pair));
      /* Of an odd number of quads the last pair's second block is zero. */
      second = dot4_i32x4(second, QUAD(n + 1 < quads ? n + 1 : n), (i32x4)second_block(pair));
    }
    store_pixel(p, row, first + second, &place, y);
  }
}

void ac_s8_dense_w4(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  const ac_view view = ac_view_of(p);
  if (!view.copied && view.positions == 1 && p->kernel_height * p->kernel_width == 1) {
    single_pixel(p, &view, x, y);
    return;
  }
  const int64_t blocks = p->kernel_height * p->kernel_width * ((p->columns + 3) / 4);
  const int8_t *from = p->weights;
  int8_t *to = scratch;
  for (int64_t row = 0; row < p->rows; row += 4)
    for (int64_t n = 0; n < blocks; n += 2, from += 16) {
      const i8x16 pair = AC_LOAD(i8x16, from);
      AC_STORE(i8x16, to, first_block(pair));
      to += 16;
      if (n + 1 < blocks) {
        AC_STORE(i8x16, to, second_block(pair));
        to += 16;
      }
    }
  ac_problem unpacked = *p;
  unpacked.weights = scratch;
  /* The rest of scratch begins where a whole number of vectors ends. */
  ac_s8_dense(&unpacked, x, x2, y, (int8_t *)scratch + ac_s4_unpacked_bytes(p));
}
