/* Depthwise convolution in f16, of any window; packing as float_depthwise.h says. */
#define AC_HALF 1
#define KERNEL ac_f16_depthwise
#include "float_depthwise.h"
