/* The list of kernels, and everything about a problem that can be said without running it. */
#include <string.h>

#include "bands.h"
#include "cpu.h"
#include "f32_winograd.h"
#include "panel.h"
#include "pool.h"
#include "view.h"

#define AC_OPS(X, name, type)                                  \
  X(name##_add, AC_BINARY, type, type, 0, 0, 0, 0)             \
  X(name##_mul, AC_BINARY, type, type, 0, 0, 0, 0)             \
  X(name##_activation, AC_UNARY, type, type, 0, 0, 0, 0)       \
  X(name##_copy, AC_UNARY, type, type, 0, 0, 0, 0)             \
  X(name##_max_pool, AC_POOL, type, type, 0, 0, 0, 0)          \
  X(name##_avg_pool, AC_POOL, type, type, 0, 0, 0, 0)          \
  X(name##_global_pool, AC_GLOBAL_POOL, type, type, 0, 0, 0, 0) \
  X(name##_gather, AC_GATHER, type, type, 0, 0, 0, 0)

#define AC_KERNEL_LIST(X)                                   \
  X(f32_dense, AC_MATRIX, AC_F32, AC_F32, 4, 1, 0, 32)         \
  X(f32_winograd, AC_MATRIX, AC_F32, AC_F32, 4, 1, 0, 32)      \
  X(f32_block4x1, AC_MATRIX, AC_F32, AC_F32, 4, 1, 1, 32)      \
  X(f32_unstructured, AC_MATRIX, AC_F32, AC_F32, 1, 1, 1, 32)  \
  X(f16_dense, AC_MATRIX, AC_F16, AC_F16, 4, 1, 0, 16)         \
  X(f16_block4x1, AC_MATRIX, AC_F16, AC_F16, 4, 1, 1, 16)      \
  X(f16_unstructured, AC_MATRIX, AC_F16, AC_F16, 1, 1, 1, 16)  \
  X(s8_dense, AC_MATRIX, AC_S8, AC_S8, 4, 4, 0, 8)             \
  X(s8_block4x4, AC_MATRIX, AC_S8, AC_S8, 4, 4, 1, 8)          \
  X(s8_block1x4, AC_MATRIX, AC_S8, AC_S8, 1, 4, 1, 8)          \
  X(f32_depthwise, AC_DEPTHWISE, AC_F32, AC_F32, 1, 1, 0, 32)  \
  X(f16_depthwise, AC_DEPTHWISE, AC_F16, AC_F16, 1, 1, 0, 16)  \
  X(s8_depthwise, AC_DEPTHWISE, AC_S8, AC_S8, 4, 1, 0, 8)      \
  X(s8_dense_w4, AC_MATRIX, AC_S8, AC_S8, 4, 4, 0, 4)          \
  X(f32_to_f16, AC_UNARY, AC_F32, AC_F16, 0, 0, 0, 0)          \
  X(f32_to_s8, AC_UNARY, AC_F32, AC_S8, 0, 0, 0, 0)            \
  X(f16_to_f32, AC_UNARY, AC_F16, AC_F32, 0, 0, 0, 0)          \
  X(f16_to_s8, AC_UNARY, AC_F16, AC_S8, 0, 0, 0, 0)            \
  X(s8_to_f32, AC_UNARY, AC_S8, AC_F32, 0, 0, 0, 0)            \
  X(s8_to_f16, AC_UNARY, AC_S8, AC_F16, 0, 0, 0, 0)            \
  AC_OPS(X, f32, AC_F32)                                       \
  AC_OPS(X, f16, AC_F16)                                       \
  AC_OPS(X, s8, AC_S8)

#define AC_DECLARE(name, ...) void ac_##name(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch);
AC_KERNEL_LIST(AC_DECLARE)

#define AC_ENTRY(name, ...) {#name, ac_##name, __VA_ARGS__},
const ac_kernel ac_kernels[] = {AC_KERNEL_LIST(AC_ENTRY)};
const int64_t ac_kernel_count = sizeof ac_kernels / sizeof *ac_kernels;

/* No size, and no product of sizes that counts elements, is larger; without a window weights may be more: 102 million in VGG's first linear. */
#define LARGEST ((int64_t)1 << 26)
#define LARGEST_WEIGHTS ((int64_t)1 << 28)

static const int64_t BYTES[] = {4, 2, 1};

static int64_t up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

static int between(int64_t low, int64_t value, int64_t high) { return low <= value && value <= high; }

/* Planes of a tensor, and bytes of a pixel of one. */
static int64_t planes(ac_type type, int64_t channels) { return type == AC_S8 ? (channels + 3) / 4 : channels; }
static int64_t pixel_bytes(ac_type type) { return type == AC_S8 ? 4 : BYTES[type]; }

/* Elements of a tensor in memory, pad lanes and gaps included. */
static int64_t elements(ac_type type, int64_t channels, int64_t plane) {
  return planes(type, channels) * plane * pixel_bytes(type) / BYTES[type];
}

static int is_winograd(const ac_kernel *kernel) { return kernel->run == ac_f32_winograd; }

/* Blocks of columns: what an index counts. */
static int64_t inputs(const ac_kernel *kernel, const ac_problem *p) {
  if (is_winograd(kernel)) return 16 * p->columns;
  return p->kernel_height * p->kernel_width * (up(p->columns, kernel->block_columns) / kernel->block_columns);
}

const ac_kernel *ac_find(const char *name) {
  for (int64_t i = 0; i < ac_kernel_count; i++)
    if (strcmp(ac_kernels[i].name, name) == 0) return &ac_kernels[i];
  return NULL;
}

const char *ac_kernel_name(int64_t number) { return ac_kernels[number].name; }

int64_t ac_uses_i8mm(void) { return ac_i8mm(); }

static ac_view view_of(const ac_kernel *kernel, const ac_problem *p) {
  return kernel->run == ac_s8_block1x4 ? ac_block1x4_view_of(p) : ac_view_of(p);
}

int64_t ac_offset_count(const ac_kernel *kernel, const ac_problem *p, int64_t blocks) {
  return kernel->sparse || kernel->op == AC_GATHER ? blocks : p->kernel_height * p->kernel_width;
}

void ac_offsets(const ac_kernel *kernel, const ac_problem *p, const int32_t *indices, int64_t blocks, int32_t *offsets) {
  if (kernel->op == AC_GATHER) {
    memcpy(offsets, indices, (size_t)blocks * sizeof *offsets);
    return;
  }
  const ac_view view = view_of(kernel, p);
  const int64_t columns = kernel->op == AC_MATRIX ? up(p->columns, kernel->block_columns) / kernel->block_columns : 1;
  const int64_t count = ac_offset_count(kernel, p, blocks);
  for (int64_t n = 0; n < count; n++) {
    const int64_t index = kernel->sparse ? indices[n] : n * columns;
    const int64_t window = index / columns, column = index % columns;
    const int64_t offset = ac_window_offset(p, &view, window / p->kernel_width, window % p->kernel_width);
    offsets[n] = (int32_t)(column * view.plane + offset);
  }
}

int64_t ac_s4_unpacked_bytes(const ac_problem *p) {
  return up(p->kernel_height * p->kernel_width * up(p->columns, 4) * up(p->rows, 4), 64);
}

int64_t ac_scratch_bytes(const ac_kernel *kernel, const ac_problem *p) {
  if (kernel->op != AC_MATRIX && kernel->op != AC_DEPTHWISE && kernel->op != AC_POOL) return 0;
  if (is_winograd(kernel)) return ac_f32_winograd_bytes(p);
  if (kernel->op == AC_DEPTHWISE && kernel->x_type == AC_S8) return ac_s8_depthwise_bytes(p);
  if (kernel->op == AC_DEPTHWISE && kernel->x_type != AC_S8 && ac_is_banded(p))
    return 2 * ac_bands_of(p).length * (int64_t)sizeof(float);
  const ac_view view = view_of(kernel, p);
  const int64_t copies = kernel->op == AC_MATRIX ? planes(kernel->x_type, p->columns) : 1;
  const int64_t panel = kernel->op == AC_MATRIX && !kernel->sparse && (kernel->x_type != AC_S8 || ac_s8_gathers(p));
  int64_t bytes = panel && ac_in_place(p, &view, copies) ? 0 : ac_copy_bytes(&view, copies, pixel_bytes(kernel->x_type));
  if (kernel->run == ac_s8_block1x4) bytes += ac_spread_bytes(p, &view, copies);
  /* What is gathered, the sums so far of all rows, which are never wider than floats, and an offset of every input. */
  if (panel)
    bytes += (2 * (kernel->x_type == AC_S8 ? AC_PANEL_DEPTH : AC_FLOAT_DEPTH) + (AC_PART_TILES + 1) * up(p->rows, 4)) * AC_WIDEST * (int64_t)sizeof(float) +
             up(inputs(kernel, p) * (int64_t)sizeof(int32_t), 64);
  /* What sums begin with: of the first part of the inputs, and of the others. */
  if (AC_VNNI && kernel->op == AC_MATRIX && kernel->x_type == AC_S8) bytes += up(2 * up(p->rows, 4) * (int64_t)sizeof(int32_t), 64);
  if (kernel->bits == 4) bytes += ac_s4_unpacked_bytes(p);
  /* Averages: factors, then a copy. Max (max_pool.h): a line, then its phases, in the room of a copy. */
  if (kernel->op == AC_POOL)
    bytes += ac_pool_factor_count(&view) * (int64_t)sizeof(float) +
             up(view.width * p->stride_width * pixel_bytes(kernel->x_type), 64);
  return bytes;
}

ac_lengths ac_required(const ac_kernel *kernel, const ac_problem *p, int64_t blocks) {
  const ac_type y_type = p->y_real ? AC_F32 : kernel->y_type;
  const int64_t rows = up(p->rows, 4), integer = kernel->x_type == AC_S8;
  ac_lengths lengths = {0};
  lengths.x = planes(kernel->x_type, p->x_lane + p->columns) * p->x_plane * pixel_bytes(kernel->x_type);
  lengths.x2 = p->x2_plane * planes(kernel->x_type, p->columns) * pixel_bytes(kernel->x_type);
  lengths.y = planes(y_type, p->y_lane + p->rows) * p->y_plane * pixel_bytes(y_type);
  if (kernel->op == AC_MATRIX) {
    const int64_t groups = rows / kernel->block_rows;
    const int64_t kept = kernel->sparse ? blocks : groups * up(inputs(kernel, p), kernel->bits == 4 ? 2 : 1);
    lengths.weights = kept * kernel->block_rows * kernel->block_columns * kernel->bits / 8;
    lengths.counts = kernel->sparse ? groups * (int64_t)sizeof(int32_t) : 0;
    lengths.indices = kernel->sparse ? blocks * (int64_t)sizeof(int32_t) : 0;
  }
  if (kernel->op == AC_GATHER) lengths.indices = elements(y_type, p->rows, p->y_plane) * (int64_t)sizeof(int32_t);
  if (kernel->op == AC_DEPTHWISE) {
    const int64_t taps = p->kernel_height * (integer ? up(p->kernel_width, 4) : p->kernel_width);
    lengths.weights = (integer ? rows : p->rows) * taps * kernel->bits / 8;
  }
  if (kernel->op == AC_MATRIX || kernel->op == AC_DEPTHWISE) {
    lengths.bias = rows * (int64_t)sizeof(float);
    lengths.scale = integer ? lengths.bias : 0;
    lengths.start = integer ? lengths.bias : 0;
  }
  return lengths;
}

static const char *check_sizes(const ac_kernel *kernel, const ac_problem *p) {
  const int64_t sides[] = {p->rows,         p->columns,         p->x_height,        p->x_width,
                           p->y_height,     p->y_width,         p->kernel_height,   p->kernel_width,
                           p->stride_height, p->stride_width,   p->dilation_height, p->dilation_width};
  for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
    if (!between(1, sides[i], 1 << 20)) return "a size is out of range";
  if (!between(0, p->pad_top, 1 << 20) || !between(0, p->pad_left, 1 << 20)) return "padding is out of range";
  const int64_t planes_most = LARGEST / (up(p->rows, 4) + up(p->columns, 4));
  if (p->x_height * p->x_width > LARGEST || p->y_height * p->y_width > LARGEST ||
      !between(p->x_height * p->x_width, p->x_plane, planes_most) || !between(p->y_height * p->y_width, p->y_plane, planes_most))
    return "a plane is out of range";
  if (kernel->op == AC_GATHER) return NULL;
  const int64_t window = p->kernel_height * p->kernel_width;
  const int64_t most_weights = window == 1 ? LARGEST_WEIGHTS : LARGEST;
  if (window > most_weights / (up(p->rows, 4) * (kernel->op == AC_MATRIX ? up(p->columns, 4) : 1))) return "a window is out of range";
  const int64_t reach_rows = (p->kernel_height - 1) * p->dilation_height;
  const int64_t reach_columns = (p->kernel_width - 1) * p->dilation_width;
  if (reach_rows > 1 << 20 || reach_columns > 1 << 20) return "a window is out of range";
  if (p->y_height * p->stride_height > 1 << 21 || p->y_width * p->stride_width > 1 << 21) return "a stride is out of range";
  const ac_view view = ac_view_of(p);
  if (view.height * view.width > LARGEST ||
      view.copied * view.phase_rows * view.phase_columns > LARGEST / (view.height * view.width) ||
      view.plane > LARGEST / up(p->columns, 4))
    return "the padded input is out of range";
  if (is_winograd(kernel) && (p->kernel_height != 3 || p->kernel_width != 3 || p->stride_height != 1 || p->stride_width != 1 ||
                              p->dilation_height != 1 || p->dilation_width != 1))
    return "this kernel has a window of 3 x 3, with stride and dilation 1";
  if (kernel->op == AC_MATRIX) return NULL;
  if (p->rows != p->columns) return "rows and columns differ";
  /* So that int32 holds the sum of 256 times as many. */
  if (kernel->x_type == AC_S8 && (window > 1 << 22 || (kernel->op == AC_GLOBAL_POOL && p->x_height * p->x_width > 1 << 22)))
    return "a window is out of range";
  if (kernel->op == AC_GLOBAL_POOL) return p->y_height * p->y_width == 1 ? NULL : "a global pool has one output a channel";
  if (kernel->op == AC_DEPTHWISE || kernel->op == AC_POOL) return NULL;
  if (p->x_height != p->y_height || p->x_width != p->y_width) return "the planes of x and y differ in size";
  if (view.copied || window != 1) return "this kernel has no window";
  if (kernel->op != AC_BINARY) return NULL;
  return between(p->gate ? 1 : p->y_height * p->y_width, p->x2_plane, planes_most) ? NULL : "a plane is out of range";
}

static const char *check_values(const ac_kernel *kernel, const ac_problem *p) {
  if (!between(0, p->activation, AC_ACTIVATIONS - 1)) return "unknown activation";
  if (p->activation == AC_CLAMP && !(p->low <= p->high)) return "a bound is out of range";
  const int quantised = kernel->y_type == AC_S8 && !p->y_real;
  if (quantised && p->activation == AC_CLAMP && !(p->low >= -128.0f && p->high <= 127.0f)) return "a bound is out of range";
  if (!between(0, p->y_real, kernel->op == AC_MATRIX && kernel->x_type == AC_S8)) return "this kernel does not write reals";
  if (!between(-128, p->x_zero_point, 127) || !between(-128, p->x2_zero_point, 127) || !between(-128, p->y_zero_point, 127))
    return "a zero point is out of range";
  if (kernel->op != AC_BINARY && p->x2_plane != 0) return "this kernel has one input";
  if (kernel->op == AC_GATHER && quantised && !(p->low >= -128.0f && p->low <= 127.0f)) return "a bound is out of range";
  const int copies = kernel->run == ac_s8_copy;
  if (!between(0, p->x_lane, 3 * copies) || !between(0, p->y_lane, 3 * copies)) return "a lane is out of range";
  if (!between(0, p->gate, kernel->op == AC_BINARY)) return "this kernel has no gate";
  if (!between(0, p->divisor, LARGEST) || !between(0, p->count_height, 1 << 20) || !between(0, p->count_width, 1 << 20))
    return "a divisor is out of range";
  return NULL;
}

const char *ac_validate_sizes(const ac_kernel *kernel, const ac_problem *p) {
  const char *wrong = check_sizes(kernel, p);
  return wrong != NULL ? wrong : check_values(kernel, p);
}

const char *ac_validate(const ac_kernel *kernel, const ac_problem *p, const ac_lengths *lengths, const int32_t *indices) {
  const char *wrong = ac_validate_sizes(kernel, p);
  if (wrong != NULL) return wrong;
  if (!between(0, lengths->indices, 4 * LARGEST_WEIGHTS)) return "a buffer is too large";
  const int64_t blocks = lengths->indices / (int64_t)sizeof(int32_t);
  const ac_lengths needed = ac_required(kernel, p, blocks);
  if (memcmp(&needed, lengths, sizeof needed) != 0) return "a buffer has the wrong length";
  if (kernel->op == AC_GATHER) {
    const int64_t last = elements(kernel->x_type, p->columns, p->x_plane) - 1;
    for (int64_t n = 0; n < blocks; n++)
      if (indices[n] > last) return "an index is out of range";
    return NULL;
  }
  if (!kernel->sparse) return NULL;

  const int64_t groups = up(p->rows, 4) / kernel->block_rows, most = inputs(kernel, p);
  int64_t total = 0;
  for (int64_t i = 0; i < groups; i++) {
    if (!between(0, p->counts[i], most)) return "a count is out of range";
    total += p->counts[i];
  }
  if (total != blocks) return "the counts do not add up to the blocks";
  for (int64_t n = 0; n < blocks; n++)
    if (!between(0, indices[n], most - 1)) return "an index is out of range";
  return NULL;
}
