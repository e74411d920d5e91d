/* int8, dense: tiles of 4 output channels x 16 pixels. With a window, inputs are gathered into panels (panel.h). CPUs with I8MM have
 * a variant of their own (s8_dense_mmla.h), and so have builds for AVX-512 with VNNI (s8_dense_vnni.h).
 *
 * Packing, rows and columns padded with zeros to multiples of 4:
 *   weights[rows / 4][window][columns / 4][4][4]: for every group of 4 rows, position of the window and quad of columns, row by
 *   row, the 4 weights
 */
#include "simd.h"
#if AC_VNNI
#include "s8_dense_vnni.h"
#else
#define KERNEL dense_by_offsets
#define SPARSE 0
#include "ac_kernels.h"
static void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch);
#include "s8_4oc.h"
#if AC_DOT2
#include "s8_dense_pairs.h"
#endif
#if AC_I8MM
#include "s8_dense_mmla.h"
#endif
#include "s8_dense_panel.h"
#endif
