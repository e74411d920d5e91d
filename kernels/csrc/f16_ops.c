/* Ops without weights in f16 (float_ops.h). */
#define AC_HALF 1
#include "float_ops.h"
