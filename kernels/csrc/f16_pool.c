/* Max and average pooling in f16 (float_pool.h). */
#define AC_HALF 1
#include "float_pool.h"
