/* Depthwise convolution in f32, of any window; packing as float_depthwise.h says. */
#define AC_HALF 0
#define KERNEL ac_f32_depthwise
#include "float_depthwise.h"
