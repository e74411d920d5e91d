/* int8, block4x4: 4 output channels share which quads of inputs they keep. Tiles of 4 output channels x 16 (VNNI: up to 80)
 * pixels.
 *
 * Packing, rows and columns padded with zeros to multiples of 4; a quad is 4 columns at one position of the window:
 *   counts[rows / 4]: kept quads of every group of 4 rows
 *   offsets[sum of counts]: of every kept quad, group after group, ascending
 *   weights[sum of counts][4][4]: row by row, the weights of every kept block
 */
#define KERNEL ac_s8_block4x4
#define SPARSE 1
#include "s8_4oc.h"
