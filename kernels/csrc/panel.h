/* Panels: the inputs of a tile of consecutive output pixels, gathered by the dense kernels so that no position between two rows of
 * outputs is computed. For every input (or quad of inputs) a panel has one row, of as many pixels as the tile.
 *
 * A tile is cut where a row of outputs ends, or one of inputs. What it reads from a plane are then a few pieces of 8, 4 or 1 pixels,
 * the same ones for all channels; the last piece of a run begins early. They are read from x itself, with a stride of 2 every second
 * pixel, and what lies outside of it is filled in. With other strides, or so few channels that finding the pieces takes longer than
 * copying, they are read from the copy of view.h.
 */
#ifndef AC_PANEL_H
#define AC_PANEL_H

#include <string.h>

#include "cpu.h"
#include "simd.h"
#include "view.h"

#define AC_PANEL_DEPTH 256  /* inputs of a tile that are gathered at a time: planar channels, or quads */
/* Float kernels: groups of 4 rows of a tile, and the same as above: loops with 8 rows keep up with L2. */
#if AC_F32_LANES == 16 && defined(__AVX__)
#define AC_FLOAT_GROUPS 2
#define AC_FLOAT_DEPTH 512
#define AC_WIDEST 48    /* pixels of the widest tile */
#define AC_PART_TILES 1 /* float: most wide tiles of a panel that holds a part of the inputs */
#else
#define AC_FLOAT_GROUPS 1
#define AC_FLOAT_DEPTH AC_PANEL_DEPTH
#define AC_WIDEST 32
#define AC_PART_TILES 2
#endif
#define AC_FEWEST_PLANES 16 /* from which windows are gathered in place */

typedef struct {
  int32_t from, to; /* in pixels: from where the first one of the tile is in its plane, and from the beginning of the panel's row */
} ac_piece;

typedef struct {
  int64_t eights, fours, ones; /* number of pieces */
  ac_piece eight[AC_WIDEST / 4], four[AC_WIDEST / 2], one[AC_WIDEST];
} ac_pieces;

/* Pixels `begin` to `end` of 8, where the first of the 8 would be at `from`. */
typedef struct {
  int32_t from, begin, end;
} ac_part_of_8;

typedef struct {
  int64_t step;  /* pixels of a plane from one of a piece to the next: 1 or 2 */
  int64_t whole; /* the tile is one run, of step 1 */
  int64_t eights; /* with step 2: every 8 pixels lie in at most that many runs, 1 or 2, and there are no pieces; else 0 */
  ac_part_of_8 part[2][AC_WIDEST / 8];
  ac_pieces inside, outside; /* what is copied, and what is filled */
} ac_cut;

/* The planes from which a panel is gathered. */
typedef struct {
  const void *planes;
  int64_t plane, height, width; /* in pixels; planes are `plane` apart */
  int64_t step_rows, step;      /* rows, and pixels of a row, from one output to the next */
  int64_t pixels;               /* in place: of all planes; else 0 */
  int64_t in_place;             /* planes are those of x, and the window may lie partly outside of them */
  int64_t flat;                 /* in place without a stride, and rows are as long as those of outputs: the pixels of all planes; else 0 */
} ac_source;

/* Whether a window is gathered from x itself, of that many planes: offsets within x_width times as many rows must be an int32, which
 * sizes from a file need not give. */
static inline int64_t ac_in_place(const ac_problem *p, const ac_view *view, int64_t planes) {
  const int64_t rows = p->y_height * p->stride_height + p->pad_top + p->kernel_height * p->dilation_height + 1;
  const int64_t columns = p->y_width * p->stride_width + p->pad_left + p->kernel_width * p->dilation_width;
  return view->copied && p->stride_width <= 2 && planes >= AC_FEWEST_PLANES && rows * p->x_width + columns <= (int64_t)1 << 30;
}

/* x, or the copy that is to be made of it. */
static inline ac_source ac_source_of(const ac_problem *p, const ac_view *view, int64_t planes, const void *x, const void *copy) {
  const int64_t flat = p->stride_height == 1 && p->stride_width == 1 && p->x_width == p->y_width;
  if (ac_in_place(p, view, planes))
    return (ac_source){x, p->x_plane, p->x_height, p->x_width, p->stride_height, p->stride_width, planes * p->x_plane, 1,
                       flat * planes * p->x_plane};
  return (ac_source){view->copied ? copy : x, view->plane, view->height, view->width, 1, 1, 0, 0, 0};
}

/* Whether the dense int8 kernel gathers its inputs: there is a window, or they are to be paired for SMMLA, and there are enough outputs for
 * its narrowest tile. With AC_VNNI it always does, because they are to be flipped. */
static inline int64_t ac_s8_gathers(const ac_problem *p) {
  return AC_VNNI || ((p->kernel_height * p->kernel_width > 1 || ac_i8mm()) && p->y_height * p->y_width >= 4);
}

/* Where the first pixel of a tile is in a plane. */
static inline int64_t ac_first_pixel(const ac_source *source, const ac_place *place) {
  return place->row * source->step_rows * source->width + place->column * source->step;
}

#define AC_CUTS 5

/* Cuts of one tile at columns of the window, for all rows of it in which no row of the tile is outside of the source; -1: of none. */
typedef struct {
  int64_t column[AC_CUTS];
  ac_cut cut[AC_CUTS];
} ac_cuts;

static inline void ac_no_cuts(ac_cuts *cuts) {
  for (int i = 0; i < AC_CUTS; i++) cuts->column[i] = -1;
}

/* How the tile at `place` is cut at a position of the window; valid until the next call. */
const ac_cut *ac_cut_at(const ac_problem *p, const ac_source *source, const ac_place *place, int64_t window, ac_cuts *cuts);

/* A piece of a plane. */
#define AC_DEFINE_PIECES(bits, bytes)                                                                                             \
  static inline void ac_eight##bytes(uint##bits##_t *to, const uint##bits##_t *from, int64_t step) {                              \
    const u##bits##x8 low = AC_LOAD(u##bits##x8, from);                                                                           \
    /* Nothing is read behind the last pixel, which may be that of the tensor. */                                                 \
    AC_STORE(u##bits##x8, to,                                                                                                     \
             step == 1 ? low : __builtin_shufflevector(low, AC_LOAD(u##bits##x8, from + 7), 0, 2, 4, 6, 9, 11, 13, 15));          \
  }                                                                                                                               \
                                                                                                                                  \
  static inline void ac_four##bytes(uint##bits##_t *to, const uint##bits##_t *from, int64_t step) {                               \
    const u##bits##x4 low = AC_LOAD(u##bits##x4, from);                                                                           \
    AC_STORE(u##bits##x4, to, step == 1 ? low : __builtin_shufflevector(low, AC_LOAD(u##bits##x4, from + 3), 0, 2, 5, 7));        \
  }

AC_DEFINE_PIECES(32, 4)
AC_DEFINE_PIECES(16, 2)

/* Of 8 lanes those from `begin` to `end` set. */
#define AC_DEFINE_LANES(bits, bytes)                                                                                              \
  static inline u##bits##x8 ac_lanes##bytes(int64_t begin, int64_t end) {                                                         \
    static const int##bits##_t set[24] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};                                \
    return AC_LOAD(u##bits##x8, set + 8 - begin) & AC_LOAD(u##bits##x8, set + 16 - end);                                          \
  }

AC_DEFINE_LANES(32, 4)
AC_DEFINE_LANES(16, 2)

/* Rows of a panel, `width` pixels, where the first one of every plane is at its offset from `from`: a few of them at a time, because distant
 * planes are more pages than a TLB has entries. */
#define AC_DEFINE_GATHER_ROWS(bits, bytes)                                                                                        \
  static inline __attribute__((always_inline)) void ac_gather_steps##bytes(                                                       \
      uint##bits##_t *to, const uint##bits##_t *from, const int32_t *offsets, int64_t rows, int64_t width, uint##bits##_t fill,   \
      const ac_cut *cut, int64_t step) {                                                                                          \
    const ac_pieces *in = &cut->inside, *out = &cut->outside;                                                                     \
    const uint##bits##_t eight[8] = {fill, fill, fill, fill, fill, fill, fill, fill};                                             \
    for (int64_t some; rows > 0; rows -= some, offsets += some, to += some * width) {                                             \
      some = rows < 16 ? rows : 16;                                                                                               \
      for (int64_t n = 0; n < in->eights; n++)                                                                                    \
        AC_SHORT for (int64_t i = 0; i < some; i++)                                                                               \
          ac_eight##bytes(to + i * width + in->eight[n].to, from + offsets[i] + in->eight[n].from, step);                         \
      for (int64_t n = 0; n < in->fours; n++)                                                                                     \
        AC_SHORT for (int64_t i = 0; i < some; i++)                                                                               \
          ac_four##bytes(to + i * width + in->four[n].to, from + offsets[i] + in->four[n].from, step);                            \
      for (int64_t n = 0; n < in->ones; n++)                                                                                      \
        AC_SHORT for (int64_t i = 0; i < some; i++) to[i * width + in->one[n].to] = from[offsets[i] + in->one[n].from];           \
      for (int64_t n = 0; n < out->eights; n++)                                                                                   \
        AC_SHORT for (int64_t i = 0; i < some; i++) memcpy(to + i * width + out->eight[n].to, eight, 8 * sizeof *to);             \
      for (int64_t n = 0; n < out->fours; n++)                                                                                    \
        AC_SHORT for (int64_t i = 0; i < some; i++) memcpy(to + i * width + out->four[n].to, eight, 4 * sizeof *to);              \
      for (int64_t n = 0; n < out->ones; n++)                                                                                     \
        AC_SHORT for (int64_t i = 0; i < some; i++) to[i * width + out->one[n].to] = fill;                                        \
    }                                                                                                                             \
  }                                                                                                                               \
                                                                                                                                  \
  static inline void ac_gather_rows##bytes(uint##bits##_t *to, const uint##bits##_t *from, const int32_t *offsets, int64_t rows,  \
                                           int64_t width, uint##bits##_t fill, const ac_cut *cut) {                               \
    if (cut->step == 1)                                                                                                           \
      ac_gather_steps##bytes(to, from, offsets, rows, width, fill, cut, 1);                                                       \
    else                                                                                                                          \
      ac_gather_steps##bytes(to, from, offsets, rows, width, fill, cut, 2);                                                       \
  }

AC_DEFINE_GATHER_ROWS(32, 4)
AC_DEFINE_GATHER_ROWS(16, 2)

/* The same of a flat source: of every plane one run is read, which may begin before the plane or end behind it, and what lies outside is
 * masked. Where it would leave the `pixels` behind `planes`, it is gathered in pieces. */
#define AC_DEFINE_GATHER_MASKED(bits, bytes)                                                                                       \
  static inline void ac_gather_masked##bytes(uint##bits##_t *to, const uint##bits##_t *from, const int32_t *offsets, int64_t rows, \
                                             int64_t width, uint##bits##_t fill, const ac_cut *cut,                                \
                                             const uint##bits##_t *planes, int64_t pixels) {                                       \
    const int64_t eights = width / 8;                                                                                              \
    const u##bits##x8 filling = AC_SPLAT(u##bits##x8, fill);                                                                       \
    uint##bits##_t mask[AC_WIDEST];                                                                                                \
    u##bits##x8 inside[AC_WIDEST / 8], outside[AC_WIDEST / 8];                                                                     \
    memset(mask, 255, sizeof mask);                                                                                                \
    for (int64_t n = 0; n < cut->outside.eights; n++) memset(mask + cut->outside.eight[n].to, 0, 8 * sizeof *mask);                \
    for (int64_t n = 0; n < cut->outside.fours; n++) memset(mask + cut->outside.four[n].to, 0, 4 * sizeof *mask);                  \
    for (int64_t n = 0; n < cut->outside.ones; n++) mask[cut->outside.one[n].to] = 0;                                              \
    for (int64_t v = 0; v < eights; v++) {                                                                                         \
      inside[v] = AC_LOAD(u##bits##x8, mask + 8 * v);                                                                              \
      outside[v] = filling & ~inside[v];                                                                                           \
    }                                                                                                                              \
    /* Planes follow each other: only the first and the last ones can be too near to the end. */                                   \
    for (; rows > 0 && from - planes + offsets[0] < 0; rows--, offsets++, to += width)                                             \
      ac_gather_rows##bytes(to, from, offsets, 1, width, fill, cut);                                                               \
    for (; rows > 0 && from - planes + offsets[rows - 1] + width > pixels; rows--)                                                 \
      ac_gather_rows##bytes(to + (rows - 1) * width, from, offsets + rows - 1, 1, width, fill, cut);                               \
    AC_SHORT for (int64_t i = 0; i < rows; i++, to += width)                                                                       \
      AC_UNROLL for (int64_t v = 0; v < eights; v++)                                                                               \
        AC_STORE(u##bits##x8, to + 8 * v, (AC_LOAD(u##bits##x8, from + offsets[i] + 8 * v) & inside[v]) | outside[v]);             \
  }

AC_DEFINE_GATHER_MASKED(32, 4)
AC_DEFINE_GATHER_MASKED(16, 2)

/* The same of every second pixel, where a tile has no pieces: 8 pixels are what lies in one run and, behind it, in another. Once for all rows: */
#define AC_DEFINE_GATHER_EIGHTS(bits, bytes)                                                                                       \
  typedef struct {                                                                                                                 \
    u##bits##x8 mask[2][AC_WIDEST / 8], outside[AC_WIDEST / 8];                                                                    \
    int64_t from[2][AC_WIDEST / 8], lowest, highest; /* pixels from the tile's first one */                                        \
  } ac_eights##bytes;                                                                                                              \
                                                                                                                                   \
  static inline __attribute__((always_inline)) ac_eights##bytes ac_eights_of##bytes(const ac_cut *cut, int64_t width,              \
                                                                                    uint##bits##_t fill, const int parts) {        \
    ac_eights##bytes eights;                                                                                                       \
    eights.lowest = eights.highest = 0;                                                                                            \
    for (int64_t v = 0; v < width / 8; v++) {                                                                                      \
      eights.outside[v] = AC_SPLAT(u##bits##x8, fill);                                                                             \
      for (int n = 0; n < parts; n++) {                                                                                            \
        const ac_part_of_8 part = cut->part[n][v];                                                                                 \
        eights.from[n][v] = part.from;                                                                                             \
        if (part.from < eights.lowest) eights.lowest = part.from;                                                                  \
        if (part.from > eights.highest) eights.highest = part.from;                                                                \
        eights.mask[n][v] = ac_lanes##bytes(part.begin, part.end);                                                                 \
        eights.outside[v] &= ~eights.mask[n][v];                                                                                   \
      }                                                                                                                            \
    }                                                                                                                              \
    return eights;                                                                                                                 \
  }                                                                                                                                \
                                                                                                                                   \
  static inline u##bits##x8 ac_second##bytes(const uint##bits##_t *from) {                                                         \
    return __builtin_shufflevector(AC_LOAD(u##bits##x8, from), AC_LOAD(u##bits##x8, from + 7), 0, 2, 4, 6, 9, 11, 13, 15);         \
  }                                                                                                                                \
                                                                                                                                   \
  static inline __attribute__((always_inline)) void ac_eights_row##bytes(uint##bits##_t *to, const uint##bits##_t *row,            \
                                                                         int64_t width, const ac_eights##bytes *eights,            \
                                                                         const int parts) {                                        \
    for (int64_t v = 0; v < width / 8; v++) {                                                                                      \
      u##bits##x8 eight = (ac_second##bytes(row + eights->from[0][v]) & eights->mask[0][v]) | eights->outside[v];                  \
      if (parts == 2) eight |= ac_second##bytes(row + eights->from[1][v]) & eights->mask[1][v];                                    \
      AC_STORE(u##bits##x8, to + 8 * v, eight);                                                                                    \
    }                                                                                                                              \
  }                                                                                                                                \
                                                                                                                                   \
  /* Whether reading vectors `at` some pixels from the first one of the source stays within its `pixels`. */                       \
  static inline int64_t ac_eights_fit##bytes(const ac_eights##bytes *eights, int64_t at, int64_t pixels) {                         \
    return at + eights->lowest >= 0 && at + eights->highest + 15 <= pixels;                                                        \
  }                                                                                                                                \
                                                                                                                                   \
  static inline __attribute__((always_inline)) void ac_gather_parts##bytes(                                                        \
      uint##bits##_t *to, const uint##bits##_t *from, const int32_t *offsets, int64_t rows, int64_t width, uint##bits##_t fill,    \
      const ac_cut *cut, const uint##bits##_t *planes, int64_t pixels, const int parts) {                                          \
    const ac_eights##bytes eights = ac_eights_of##bytes(cut, width, fill, parts);                                                  \
    AC_SHORT for (int64_t i = 0; i < rows; i++, to += width) {                                                                     \
      const uint##bits##_t *row = from + offsets[i];                                                                               \
      if (ac_eights_fit##bytes(&eights, row - planes, pixels)) {                                                                   \
        ac_eights_row##bytes(to, row, width, &eights, parts);                                                                      \
        continue;                                                                                                                  \
      }                                                                                                                            \
      for (int64_t at = 0; at < width; at++) {                                                                                     \
        to[at] = fill;                                                                                                             \
        for (int n = 0; n < parts; n++) {                                                                                          \
          const ac_part_of_8 part = cut->part[n][at / 8];                                                                          \
          if (part.begin <= at % 8 && at % 8 < part.end) to[at] = row[part.from + 2 * (at % 8)];                                   \
        }                                                                                                                          \
      }                                                                                                                            \
    }                                                                                                                              \
  }                                                                                                                                \
                                                                                                                                   \
  static inline __attribute__((always_inline)) void ac_gather_eights##bytes(                                                       \
      uint##bits##_t *to, const uint##bits##_t *from, const int32_t *offsets, int64_t rows, int64_t width, uint##bits##_t fill,    \
      const ac_cut *cut, const uint##bits##_t *planes, int64_t pixels) {                                                           \
    if (cut->eights == 1)                                                                                                          \
      ac_gather_parts##bytes(to, from, offsets, rows, width, fill, cut, planes, pixels, 1);                                        \
    else                                                                                                                           \
      ac_gather_parts##bytes(to, from, offsets, rows, width, fill, cut, planes, pixels, 2);                                        \
  }

AC_DEFINE_GATHER_EIGHTS(32, 4)
AC_DEFINE_GATHER_EIGHTS(16, 2)

/* For every input, window by window, its offset from the one of the first plane that belongs to a tile's first pixel. */
void ac_input_offsets(const ac_problem *p, const ac_source *source, int64_t planes, int32_t *offsets);

/* Bytes `at` to `end` of the int8 weights of two groups of 4 rows, `next` bytes apart, come into L1, or only as far as L2. */
#define AC_INTO_L1 3
#define AC_INTO_L2 2
#define AC_DEFINE_FETCH_WEIGHTS(name, cache)                                                              \
  static inline void name(const int8_t *weights, int64_t next, int64_t at, int64_t end) {                 \
    AC_SHORT for (; at < end; at += 64) {                                                                 \
      __builtin_prefetch(weights + at, 0, cache);                                                         \
      __builtin_prefetch(weights + next + at, 0, cache);                                                  \
    }                                                                                                     \
  }

AC_DEFINE_FETCH_WEIGHTS(ac_fetch_weights_l1, AC_INTO_L1)
AC_DEFINE_FETCH_WEIGHTS(ac_fetch_weights_l2, AC_INTO_L2)

/* Tiles over all output pixels, without a break. */
static inline ac_view ac_outputs_of(const ac_problem *p) {
  const int64_t pixels = p->y_height * p->y_width;
  return (ac_view){0, p->y_width, p->y_height, 1, 1, pixels, pixels};
}

#endif
