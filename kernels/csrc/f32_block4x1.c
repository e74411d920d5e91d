/* fp32, block4x1: 4 output channels share which input channels they keep. Tiles as in f32_dense.c.
 *
 * Packing, rows padded with zeros to a multiple of 4:
 *   counts[rows / 4]: kept columns of every group of 4 rows
 *   offsets[sum of counts]: column * x_plane of every kept block, group after group, columns ascending
 *   weights[sum of counts][4]: the 4 weights of every kept block
 */
#define KERNEL ac_f32_block4x1
#define COUNT(group) ((size_t)p->counts[group])
#define OFFSET(n) ((size_t)offsets[n])
#define SKIP(offsets, count) (offsets) += (count)
#include "f32_4oc.h"
