/* Ops without weights in f32 (float_ops.h). */
#define AC_HALF 0
#include "float_ops.h"
