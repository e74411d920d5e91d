/* fp32, unstructured: tiles of 1 output channel x 8 vectors of pixels, 32 pixels on NEON.
 *
 * Packing; an input is a column at one position of the window:
 *   counts[rows]: kept weights of every row, rows padded with 0 to a multiple of 4
 *   offsets[sum of counts]: of the input of every kept weight, row after row, ascending
 *   weights[sum of counts]: the kept weights
 */
#define AC_HALF 0
#define KERNEL ac_f32_unstructured
#include "float_1oc.h"
