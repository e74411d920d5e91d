/* int8, dense: tiles of 4 output channels x 16 pixels.
 *
 * Packing, rows and columns padded with zeros to multiples of 4:
 *   weights[rows / 4][window][columns / 4][4][4]: for every group of 4 rows, position of the window and quad of columns, row by
 *   row, the 4 weights
 */
#define KERNEL ac_s8_dense
#define SPARSE 0
#include "s8_4oc.h"
