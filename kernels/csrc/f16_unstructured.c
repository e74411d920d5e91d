/* fp16, unstructured: as f32_unstructured.c, with the weights in half precision. Tiles of 1 output channel x 64 pixels on NEON. */
#define AC_HALF 1
#define KERNEL ac_f16_unstructured
#include "float_1oc.h"
