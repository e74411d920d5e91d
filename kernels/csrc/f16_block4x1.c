/* fp16, block4x1: as f32_block4x1.c, with the weights in half precision. Tiles of 4 output channels x 32 pixels. */
#define AC_HALF 1
#define KERNEL ac_f16_block4x1
#define SPARSE 1
#include "float_4oc.h"
