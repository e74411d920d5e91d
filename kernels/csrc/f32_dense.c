/* fp32, dense: tiles of 4 output channels x 16 pixels, or 32 on AVX-512.
 *
 * Packing, rows padded with zeros to a multiple of 4:
 *   weights[rows / 4][columns][4]: for every group of 4 rows and every column, the 4 weights of the group
 */
#define KERNEL ac_f32_dense
#define COUNT(group) p->columns
#define OFFSET(n) ((n) * p->x_plane)
#define SKIP(offsets, count)
#include "f32_4oc.h"
