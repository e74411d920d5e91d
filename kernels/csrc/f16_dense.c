/* fp16, dense: as f32_dense.c, with the weights in half precision. Tiles as there, in half precision 4 output
 * channels x 32 pixels. */
#define AC_HALF 1
#define KERNEL ac_f16_dense
#define SPARSE 0
#include "float_4oc.h"
