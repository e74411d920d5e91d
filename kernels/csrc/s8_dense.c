/* int8, dense: tiles of 4 output channels x 16 pixels.
 *
 * Packing, rows and columns padded with zeros to multiples of 4:
 *   weights[rows / 4][columns / 4][4][4]: for every group of 4 rows and every quad of columns, row by row, the 4 weights
 */
#define KERNEL ac_s8_dense
#define COUNT(group) ((p->columns + 3) / 4)
#define OFFSET(n) ((n) * p->x_plane)
#define SKIP(offsets, count)
#include "s8_4oc.h"
