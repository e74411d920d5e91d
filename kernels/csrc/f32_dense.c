/* fp32, dense: tiles of 4 output channels x 16 pixels on NEON, 4 x 24 on AVX2, 8 x 48 on AVX-512.
 *
 * Packing, rows padded with zeros to a multiple of 4:
 *   weights[rows / 4][window][columns][4]: for every group of 4 rows, position of the window and column, the 4 weights of the group
 */
#define AC_HALF 0
#define KERNEL ac_f32_dense
#define SPARSE 0
#include "float_4oc.h"
