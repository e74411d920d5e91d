/* Included by the sparse int8 kernels where AC_VNNI is set: TILE_FILE once for every number of vectors up to MOST_VECTORS. */
#define TILE tile_1
#define LANES 16
#define VECTORS 1
#include TILE_FILE

#define TILE tile_2
#define LANES 16
#define VECTORS 2
#include TILE_FILE

#define TILE tile_3
#define LANES 16
#define VECTORS 3
#include TILE_FILE

#define TILE tile_4
#define LANES 16
#define VECTORS 4
#include TILE_FILE

#define TILE tile_5
#define LANES 16
#define VECTORS 5
#include TILE_FILE

#if MOST_VECTORS == 6
#define TILE tile_6
#define LANES 16
#define VECTORS 6
#include TILE_FILE
static ac_tile_function *const tile_functions[] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
#else
static ac_tile_function *const tile_functions[] = {tile_1, tile_2, tile_3, tile_4, tile_5};
#endif
