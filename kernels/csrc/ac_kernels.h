/* Matrix kernels for one image or token batch: 1x1 convolution and linear.
 *
 * y[row][pixel] = clamp(bias[row] + sum over column of weight[row][column] * x[column][pixel])
 *
 * Rows are output channels, columns are input channels, pixels are the positions of a plane (height * width) or the
 * tokens of a linear layer; any of them may be any number, 1 included. Layouts of x and y:
 *   f32  planar: x[column][pixel], the channels `x_plane` pixels apart
 *   s8   quads:  x[column / 4][pixel][column % 4], the quads of channels `x_plane` pixels apart; the last quad is
 *        padded when the number of channels is not a multiple of 4. What the pad lanes of x hold does not matter; the
 *        pad lanes of y are written with clamp(y_zero_point).
 * Nothing is read or written outside of these. Planes may be further apart than they are long, so that a caller can
 * run a range of pixels (x + begin, y + begin, pixels = count) on one thread, or space planes against cache conflicts.
 * How `weights`, `bias`, `counts` and `offsets` are packed is said at the top of each kernel's file; packing.py packs.
 *
 * The kernels trust their arguments: whoever reads a network from a file must check counts and offsets first, as
 * check.c does.
 */
#ifndef AC_KERNELS_H
#define AC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define AC_EXPORT __attribute__((visibility("default")))

typedef struct {
  size_t rows, columns, pixels;
  size_t x_plane, y_plane;
  const float *weights;
  const float *bias;       /* of every row, padded with zeros to a multiple of 4 */
  const int32_t *counts;   /* kept blocks of every row or group of 4 rows; NULL for dense */
  const int32_t *offsets;  /* of every kept block: its column * x_plane; NULL for dense */
  float low, high;         /* the activation: -inf, inf for none; 0, inf for relu */
} ac_f32_problem;

/* Integer arithmetic of the s8 kernels, the same on every machine, bit for bit:
 *   sum = bias + sum of weight * x                          in int32; the packer guarantees that it cannot overflow
 *   q   = (int64(sum) * multiplier + 2^(shift-1)) >> shift  rounded to nearest, ties upwards, rounded once
 *   y   = min(max(q + y_zero_point, low), high)
 * with 0 <= multiplier < 2^31 and 31 <= shift <= 62 for every row, so multiplier * 2^-shift < 1 is the scale from sums
 * to outputs. This is what TFLite calls single rounding and XNNPACK calls rndnu. The input's zero point is folded into
 * the bias by the packer (bias - x_zero_point * sum of the row's weights). Weights are in [-127, 127]: -128 is not
 * allowed, x is in [-128, 127].
 */
typedef struct {
  size_t rows, columns, pixels; /* columns counts channels, not quads */
  size_t x_plane, y_plane;
  const int8_t *weights;
  const int32_t *bias, *multiplier, *shift; /* of every row, padded to a multiple of 4 with 0, 0, 31 */
  const int32_t *counts;                    /* as above */
  const int32_t *offsets;                   /* of every kept block: its quad of columns * x_plane, in pixels */
  int32_t y_zero_point, low, high;          /* low and high are in the output's integers, within [-128, 127] */
} ac_s8_problem;

AC_EXPORT void ac_f32_dense(const ac_f32_problem *p, const float *x, float *y);
AC_EXPORT void ac_f32_block4x1(const ac_f32_problem *p, const float *x, float *y);
AC_EXPORT void ac_f32_unstructured(const ac_f32_problem *p, const float *x, float *y);
AC_EXPORT void ac_s8_dense(const ac_s8_problem *p, const int8_t *x, int8_t *y);
AC_EXPORT void ac_s8_block4x4(const ac_s8_problem *p, const int8_t *x, int8_t *y);
AC_EXPORT void ac_s8_block1x4(const ac_s8_problem *p, const int8_t *x, int8_t *y);

#endif
