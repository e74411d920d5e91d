/* fp32, block4x1: 4 output channels share which inputs they keep. Tiles of 4 output channels
 * x 16 pixels on NEON, 24 on AVX2, 32 on AVX-512.
 *
 * Packing, rows padded with zeros to a multiple of 4; an input is a column at one position of the window:
 *   counts[rows / 4]: kept inputs of every group of 4 rows
 *   offsets[sum of counts]: of every kept input, group after group, ascending
 *   weights[sum of counts][4]: the 4 weights of every kept block
 */
#define AC_HALF 0
#define KERNEL ac_f32_block4x1
#define SPARSE 1
#include "float_4oc.h"
