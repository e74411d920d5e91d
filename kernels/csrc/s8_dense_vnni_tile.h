/* Included by s8_dense_vnni.h once per width of the tile: 8 or 4 rows for LANES * VECTORS pixels, of a panel or of x. */
#define VECTOR AC_JOIN(i32x, LANES)

#include "s8_store.h"

static inline __attribute__((always_inline)) void AC_JOIN(TILE, _part)(const ac_vnni *part, const int groups, const int masked, int64_t row,
                                                                       const int8_t *weights, const ac_panel_tile *tile) {
  const int8_t *from = tile->inputs, *const end = weights + part->depth * QUAD_BYTES;
  int32_t *own = tile->sums + row * LANES * VECTORS;
  VECTOR sum[8][VECTORS];
  AC_UNROLL for (int i = 0; i < 4 * groups; i++)
    AC_UNROLL for (int v = 0; v < VECTORS; v++) {
      const VECTOR begin = AC_SPLAT(VECTOR, part->begin[row + i]);
      sum[i][v] = part->first ? begin : begin + AC_LOAD(VECTOR, own + LANES * (VECTORS * i + v));
    }
  const int64_t next = part->next_weights, step = tile->step;
  const VECTOR fill = AC_JOIN(flip_, VECTOR)(AC_SPLAT(VECTOR, (int32_t)s8_fill(part->p)));
  const ac_window *window = masked ? tile->windows + part->from / part->quads : NULL;
  for (int64_t quad = masked ? part->from % part->quads : 0; weights != end; window++, quad = 0) {
    const int8_t *until = end;
    uint16_t inside[VECTORS] = {0};
    if (masked) {
      const int64_t left = (end - weights) / QUAD_BYTES, quads = part->quads - quad < left ? part->quads - quad : left;
      until = weights + quads * QUAD_BYTES;
      from = tile->inputs + 4 * window->shift + quad * step;
      AC_UNROLL for (int v = 0; v < VECTORS; v++) inside[v] = window->inside[v];
    }
    AC_ALIGNED_LOOP for (; weights != until; from += step, weights += QUAD_BYTES) {
      VECTOR input[VECTORS];
      AC_UNROLL for (int v = 0; v < VECTORS; v++) {
        const int8_t *const at = from + 4 * LANES * v;
        input[v] = masked ? flip_inside_i32x16(fill, inside[v], at) : AC_JOIN(flip_, VECTOR)(AC_LOAD(VECTOR, at));
      }
      AC_UNROLL for (int i = 0; i < 4 * groups; i++) {
        const VECTOR weight = AC_SPLAT(VECTOR, *(const i32_memory *)(weights + i / 4 * next + i % 4 * 4));
        AC_UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] = AC_JOIN(dot4u_, VECTOR)(sum[i][v], input[v], weight);
      }
    }
    if (!masked) break;
  }
  if (part->last)
    AC_UNROLL for (int g = 0; g < groups; g++)
      AC_JOIN(TILE, _finish)(part->p, part->view, &tile->place, row + 4 * g, sum + 4 * g, part->low, part->high, part->y);
  else
    AC_UNROLL for (int i = 0; i < 4 * groups; i++)
      AC_UNROLL for (int v = 0; v < VECTORS; v++) AC_STORE(VECTOR, own + LANES * (VECTORS * i + v), sum[i][v]);
}

#define DEFINE_PART(name, groups, masked)                                                                                      \
  static AC_NOINLINE void AC_JOIN(TILE, name)(const ac_vnni *part, int64_t row, const int8_t *weights, const ac_panel_tile *tile) { \
    AC_JOIN(TILE, _part)(part, groups, masked, row, weights, tile);                                                            \
  }
DEFINE_PART(_4, 1, 0)
DEFINE_PART(_8, 2, 0)
DEFINE_PART(_4_masked, 1, 1)
DEFINE_PART(_8_masked, 2, 1)

#undef DEFINE_PART
#undef VECTOR
#undef LANES
#undef VECTORS
#undef TILE
