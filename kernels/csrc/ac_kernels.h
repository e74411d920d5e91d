/* The kernels: one struct of arguments, one signature, one registry. C runtime, benchmark and tests call them only through this.
 *
 * Every kernel computes one op for one image (or one batch of tokens):
 *
 *   matrix      y[row] = act(bias[row] + sum over window and column of weight * x), a convolution of any kernel, stride, padding
 *               and dilation; 1x1 and linear are the case with a window of one (tokens are pixels). Groups are packed as blocks.
 *   depthwise   the same with one input channel for every output channel
 *   elementwise add, mul, activation; pool; convert; copy; gather
 *
 * Sizes. `rows` are output channels, `columns` input channels. x is x_height * x_width pixels a plane, y is y_height * y_width.
 * Output pixel (i, j) reads input rows i * stride - pad_top + k * dilation. What lies outside of x is padding, on all four sides:
 * bottom and right padding is whatever the output's size asks for. Ops without a window keep kernel, stride, dilation 1, padding 0.
 *
 * Layouts of x, x2 and y, by element type:
 *   f32, f16  planar: [channel][pixel], channels x_plane (x2_plane, y_plane) pixels apart
 *   s8        quads:  [channel / 4][pixel][channel % 4], quads x_plane pixels apart. What the pad lanes of the last quad of x
 *             hold does not matter; those of y are written with whatever the kernel makes of them.
 * Planes may be further apart than they are long: then kernels leave alone what lies between.
 *
 * int8. A code q stands for (q - zero_point) * scale. Weights are in [-127, 127] with zero point 0. All machines compute the same
 * bits, with fma = fused multiply-add rounded once, and every operation in IEEE binary32, to nearest:
 *   matrix, depthwise:
 *     sum = start[row] + sum of weight * x           in int32; start is -x_zero_point * sum of the row's weights
 *     r   = fma(float(sum), scale[row], bias[row])
 *   add:        r = fma(float(q1 - z1), x_scale, float(q2 - z2) * x2_scale)
 *   mul:        r = float((q1 - z1) * (q2 - z2)) * (x_scale * x2_scale)
 *   all others: r = float(q - z) * x_scale
 *   then, where the activation bends (see below):  r = act(r) * y_inverse_scale
 *   and at last  y = round_half_even(min(max(r, low - y_zero_point), high - y_zero_point)) + y_zero_point
 * Where it does not bend (none, clamp), scale, bias, x_scale and x2_scale of these ops are already divided by the scale of y: the
 * epilogue is one FMA, two comparisons and one conversion. Without FMA instructions the compiler calls fmaf: the same bits, slowly.
 * With y_real, a matrix kernel writes act(r) itself, as planar f32: the layer that ends a network.
 *
 * Kernels trust their arguments. Whoever reads a network from a file calls ac_validate first, as run.c does.
 */
#ifndef AC_KERNELS_H
#define AC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define AC_EXPORT __attribute__((visibility("default")))

/* clamp(low, high) is relu, relu6, ... The ones after it bend: they are computed in f32 as activation.h says. */
enum {
  AC_NONE,
  AC_CLAMP,
  AC_HARDSWISH,
  AC_HARDSIGMOID,
  AC_SIGMOID,
  AC_SILU,
  AC_TANH,
  AC_GELU,
  AC_GELU_TANH,
  AC_LEAKY_RELU, /* slope */
  AC_ELU,        /* slope is alpha */
  AC_ACTIVATIONS
};

/* The order of fields is that of a job file (job.h): integers, reals, pointers. */
typedef struct {
  int64_t rows, columns;
  int64_t x_height, x_width, y_height, y_width;
  int64_t kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width;
  int64_t pad_top, pad_left;
  int64_t count_height, count_width; /* average pool: rows and columns of padding that count as zeros, on every side */
  int64_t divisor;                   /* average pool: what sums are divided by; 0: the number of inputs that count */
  int64_t x_plane, x2_plane, y_plane; /* in pixels; x2_plane is 0 when there is no x2 */
  int64_t gate;                      /* add, mul: x2 has one pixel a channel, used for the whole plane */
  int64_t x_lane, y_lane;            /* s8 copy: channel of the first quad at which to begin reading, writing */
  int64_t y_real;                    /* s8 matrix: y is planar f32 */
  int64_t activation;
  int64_t x_zero_point, x2_zero_point, y_zero_point;

  float low, high;                   /* AC_CLAMP, and gather's fill: real numbers; for s8 output, codes within [-128, 127] */
  float slope;
  float x_scale, x2_scale, y_inverse_scale;

  const void *weights;               /* packed as the kernel's file says */
  const float *bias, *scale;         /* of every row, padded with zeros to a multiple of 4; scale for s8 only */
  const int32_t *start;              /* the same, s8 only */
  const int32_t *counts;             /* kept blocks of every row or group of 4 rows; NULL for dense */
  const int32_t *offsets;            /* made by ac_offsets */
} ac_problem;

/* Bytes that a kernel reads or writes behind each pointer. */
typedef struct {
  int64_t weights, bias, scale, start, counts, indices, x, x2, y;
} ac_lengths;

typedef enum { AC_F32, AC_F16, AC_S8 } ac_type;
typedef enum { AC_MATRIX, AC_DEPTHWISE, AC_BINARY, AC_UNARY, AC_POOL, AC_GLOBAL_POOL, AC_GATHER } ac_op;

typedef void ac_function(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch);

typedef struct {
  const char *name;
  ac_function *run;
  ac_op op;
  ac_type x_type, y_type;
  int64_t block_rows, block_columns; /* of matrix kernels */
  int64_t sparse;                    /* matrix: has counts and indices */
  int64_t bits;                      /* of matrix and depthwise weights, as packed */
} ac_kernel;

AC_EXPORT extern const ac_kernel ac_kernels[];
AC_EXPORT extern const int64_t ac_kernel_count;

/* The kernel of that name, or NULL. */
AC_EXPORT const ac_kernel *ac_find(const char *name);

/* The name of kernel 0 <= number < ac_kernel_count. */
AC_EXPORT const char *ac_kernel_name(int64_t number);

/* Whether the s8 kernels use I8MM (cpu.h): this CPU has it. */
AC_EXPORT int64_t ac_uses_i8mm(void);

/* Entries of `offsets`: kept blocks of a sparse kernel or indices of a gather (`blocks`), positions of the window for others. */
AC_EXPORT int64_t ac_offset_count(const ac_kernel *kernel, const ac_problem *p, int64_t blocks);

/* Fill `offsets`, which the caller then puts into the problem. A dense kernel's indices are not read; those of gather are its offsets.
 * A sparse kernel's index says which block of columns: (window row * kernel_width + window column) * ceil(columns / block_columns)
 * + block of columns. */
AC_EXPORT void ac_offsets(const ac_kernel *kernel, const ac_problem *p, const int32_t *indices, int64_t blocks,
                          int32_t *offsets);

/* Bytes of scratch, which may hold anything and must be 64-byte aligned. */
AC_EXPORT int64_t ac_scratch_bytes(const ac_kernel *kernel, const ac_problem *p);

/* What the kernel needs behind each pointer, for a problem whose sizes are valid. */
AC_EXPORT ac_lengths ac_required(const ac_kernel *kernel, const ac_problem *p, int64_t blocks);

/* NULL if all scalars of the problem are in range, so that the functions above may be called; otherwise what is wrong. */
AC_EXPORT const char *ac_validate_sizes(const ac_kernel *kernel, const ac_problem *p);

/* NULL if the kernel may be run on this: scalars in range, lengths as required, counts and indices within the weights. Otherwise what
 * is wrong. `offsets` is not looked at. */
AC_EXPORT const char *ac_validate(const ac_kernel *kernel, const ac_problem *p, const ac_lengths *lengths,
                                  const int32_t *indices);

#endif
