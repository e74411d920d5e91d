/* How a kernel with a window sees its input: as planes in which every position of the window is one constant offset.
 *
 * Output pixel (i, j) is position i * width + j. With stride 1 and no padding the planes are those of x; otherwise they are a
 * padded copy in scratch, split by parity for a stride: phase (a, b) of a channel holds padded rows a, a + stride, ... and so on.
 * Columns between an output row and the next are computed and dropped by ac_scatter. A copy has AC_SLACK elements behind its end,
 * so that tiles may run over it.
 */
#ifndef AC_VIEW_H
#define AC_VIEW_H

#include "ac_kernels.h"

#define AC_SLACK 128 /* at least the widest tile of any kernel */

typedef struct {
  int64_t copied;
  int64_t width, height;                 /* of a phase, in positions */
  int64_t phase_rows, phase_columns;     /* number of phases */
  int64_t positions;                     /* from the first output pixel to the last, dropped ones included */
  int64_t plane;                         /* from a channel to the next */
} ac_view;

typedef struct {
  int64_t at, width;
} ac_tile;

/* Where a tile lies in y. */
typedef struct {
  int64_t whole; /* the tile is a run of outputs: it can be stored at `pixel` as it is */
  int64_t pixel, row, column, width;
} ac_place;

/* A tile's first position, and its place. */
typedef struct {
  int64_t position;
  ac_place place;
} ac_spot;

/* Bytes of scratch that s8_dense_w4 unpacks its weights into: a multiple of 64. */
int64_t ac_s4_unpacked_bytes(const ac_problem *p);

/* Bytes of scratch of s8_depthwise. */
int64_t ac_s8_depthwise_bytes(const ac_problem *p);

ac_view ac_view_of(const ac_problem *p);

/* The view of s8_block1x4. With AC_VNNI the planes of a 1x1 layer may lie further apart than those of x (ac_spreads): in a copy of
 * ac_spread_bytes, so that all vectors but the last one of a plane are aligned. Others take twice as long to load. */
ac_view ac_block1x4_view_of(const ac_problem *p);

static inline int64_t ac_spreads(const ac_problem *p, const ac_view *view) { return !view->copied && view->plane != p->x_plane; }
static inline int64_t ac_spread_bytes(const ac_problem *p, const ac_view *view, int64_t planes) {
  return ac_spreads(p, view) ? planes * view->plane * 4 : 0;
}
void ac_spread(const ac_problem *p, const ac_view *view, const void *x, int64_t planes, void *scratch);

/* Offset of a position of the window from the output's position. */
int64_t ac_window_offset(const ac_problem *p, const ac_view *view, int64_t ky, int64_t kx);

/* Copy `planes` planes of x, of elements (or quads) of 4 or 2 bytes, padding with `fill`; returns the end of the copy. ac_slack
 * fills what tiles may read behind it. */
uint32_t *ac_pad4(const ac_problem *p, const ac_view *view, const void *x, int64_t planes, uint32_t fill, void *scratch);
uint16_t *ac_pad2(const ac_problem *p, const ac_view *view, const void *x, int64_t planes, uint16_t fill, void *scratch);

/* `count` elements at `to`, which end where these return: all of them `fill`; from[0], from[step], from[2 * step], ... */
uint32_t *ac_fill4(uint32_t *to, int64_t count, uint32_t fill);
uint16_t *ac_fill2(uint16_t *to, int64_t count, uint16_t fill);
uint32_t *ac_pick4(uint32_t *to, const uint32_t *from, int64_t step, int64_t count);
uint16_t *ac_pick2(uint16_t *to, const uint16_t *from, int64_t step, int64_t count);

void ac_slack4(uint32_t *end, uint32_t fill);
void ac_slack2(uint16_t *end, uint16_t fill);

/* Store a tile of 4 or 2 byte elements in plane y, without what is no output. */
void ac_scatter4(const ac_problem *p, const ac_view *view, const ac_place *place, const void *tile, void *y);
void ac_scatter2(const ac_problem *p, const ac_view *view, const ac_place *place, const void *tile, void *y);

/* The tile to compute at `position`. A copy may be run over; elsewhere the last tile begins early and computes some pixels twice,
 * which costs less than narrow tiles. Width 1 when there are fewer pixels than `narrow`. */
static inline ac_tile ac_next_tile(const ac_view *view, int64_t position, int64_t wide, int64_t middle, int64_t narrow) {
  const int64_t left = view->positions - position;
  int64_t width = left > middle ? wide : left > narrow ? middle : narrow;
  if (view->copied) return (ac_tile){position, left == 1 ? 1 : width};
  if (width > view->positions) width = view->positions >= middle ? middle : view->positions >= narrow ? narrow : 1;
  return (ac_tile){left < width ? view->positions - width : position, width};
}

/* Bytes of a copy, a multiple of 64. */
static inline int64_t ac_copy_bytes(const ac_view *view, int64_t planes, int64_t element) {
  return view->copied ? ((planes * view->plane + AC_SLACK) * element + 63) / 64 * 64 : 0;
}

static inline ac_place ac_place_of(const ac_problem *p, const ac_view *view, int64_t position, int64_t width) {
  if (view->width == p->y_width)
    return (ac_place){position + width <= view->positions, position, position / view->width, position % view->width, width};
  const int64_t row = position / view->width, column = position - row * view->width;
  return (ac_place){column + width <= p->y_width, row * p->y_width + column, row, column, width};
}

#endif
