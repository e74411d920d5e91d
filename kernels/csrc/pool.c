#include "pool.h"

/* Positions of the window of one output that count, along one side: those in x and in `extra` rows or columns around it. */
static int64_t counted(int64_t first, int64_t kernel, int64_t dilation, int64_t size, int64_t extra) {
  int64_t count = 0;
  for (int64_t k = 0; k < kernel; k++) {
    const int64_t at = first + k * dilation;
    count += at >= -extra && at < size + extra;
  }
  return count;
}

void ac_pool_factors(const ac_problem *p, const ac_view *view, float scale, float *factors) {
  for (int64_t i = 0; i < ac_pool_factor_count(view); i++) factors[i] = 0.0f;
  for (int64_t row = 0; row < p->y_height; row++) {
    const int64_t rows =
        counted(row * p->stride_height - p->pad_top, p->kernel_height, p->dilation_height, p->x_height, p->count_height);
    for (int64_t column = 0; column < p->y_width; column++) {
      const int64_t columns =
          counted(column * p->stride_width - p->pad_left, p->kernel_width, p->dilation_width, p->x_width, p->count_width);
      const int64_t all = p->divisor != 0 ? p->divisor : rows * columns;
      /* A window that lies in padding alone sums to 0. */
      factors[row * view->width + column] = scale / (float)(all != 0 ? all : 1);
    }
  }
}
