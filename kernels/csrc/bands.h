/* The copy of its input that a float depthwise kernel of 3x3 or 5x5 reads: see float_depthwise_bands.h. */
#ifndef AC_BANDS_H
#define AC_BANDS_H

#include "ac_kernels.h"
#include "simd.h"

/* Reals of a copy, if 4 rows of outputs need no more: two copies stay in L1 beside what else goes through it. */
#define AC_BAND_REALS 2048
/* Lanes of the widest vector of reals. */
#define AC_BAND_LANES (AC_F32_LANES < 8 ? 8 : AC_F32_LANES)

/* Rows of a copy lie `row` reals apart. With stride 2 a row is its even columns, then from `phase` on its odd ones. */
typedef struct {
  int64_t phase, row;
  int64_t even, odd; /* where even and odd columns of x begin */
  int64_t columns; /* of x that are read */
  int64_t outputs; /* rows of outputs of a band; the last band of a channel may have fewer */
  int64_t length;  /* of a copy, a multiple of 16 */
} ac_bands;

static inline int ac_is_banded(const ac_problem *p) {
  return p->kernel_height == p->kernel_width && (p->kernel_height == 3 || p->kernel_height == 5) &&
         p->stride_height == p->stride_width && p->stride_height <= 2 && p->dilation_height == 1 && p->dilation_width == 1;
}

/* Rows of inputs under `outputs` rows of outputs. */
static inline int64_t ac_band_inputs(const ac_problem *p, int64_t outputs) {
  return (outputs - 1) * p->stride_height + p->kernel_height;
}

static inline ac_bands ac_bands_of(const ac_problem *p) {
  const int64_t stride = p->stride_width, reach = (p->y_width - 1) * stride + p->kernel_width - p->pad_left;
  ac_bands bands;
  bands.columns = reach < 0 ? 0 : reach < p->x_width ? reach : p->x_width;
  /* Rows are written in whole vectors. Zeros behind a row may lie where the next one has its padding. */
  const int64_t read = p->y_width + (p->kernel_width - 1) / stride;
  const int64_t vectors = (bands.columns + stride * AC_BAND_LANES - 1) / (stride * AC_BAND_LANES);
  const int64_t written = vectors * AC_BAND_LANES + (stride == 1 ? 0 : (p->pad_left + 1) / 2);
  bands.phase = ((read < written ? written : read) + 7) / 8 * 8;
  bands.row = bands.phase * stride;
  bands.even = p->pad_left % stride * bands.phase + p->pad_left / stride;
  bands.odd = (p->pad_left + 1) % stride * bands.phase + (p->pad_left + 1) / stride;
  const int64_t inputs = AC_BAND_REALS / bands.row - p->kernel_height;
  const int64_t fitting = inputs < 0 ? 0 : (inputs / stride + 1) / 4 * 4;
  bands.outputs = fitting < 4 ? 4 : fitting;
  if (bands.outputs > p->y_height) bands.outputs = p->y_height;
  bands.length = (ac_band_inputs(p, bands.outputs) * bands.row + 2 * AC_BAND_LANES + 15) / 16 * 16;
  return bands;
}

#endif
