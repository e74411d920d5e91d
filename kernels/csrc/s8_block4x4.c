/* int8, block4x4: 4 output channels share which quads of input channels they keep. Tiles as in s8_dense.c.
 *
 * Packing, rows and columns padded with zeros to multiples of 4:
 *   counts[rows / 4]: kept quads of every group of 4 rows
 *   offsets[sum of counts]: quad * x_plane of every kept block, group after group, columns ascending
 *   weights[sum of counts][4][4]: row by row, the weights of every kept block
 */
#define KERNEL ac_s8_block4x4
#define COUNT(group) ((size_t)p->counts[group])
#define OFFSET(n) ((size_t)offsets[n])
#define SKIP(offsets, count) (offsets) += (count)
#include "s8_4oc.h"
