/* Max and average pooling in f32 (float_pool.h). */
#define AC_HALF 0
#include "float_pool.h"
