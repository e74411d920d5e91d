/* activation.h for the vectors that this machine's kernels use: those of 4 lanes, and the widest. */
#define LANES 4
#include "activation.h"
#if AC_F32_LANES == 16
#define LANES 16
#include "activation.h"
#endif
#define LANES 8
#include "activation.h"
