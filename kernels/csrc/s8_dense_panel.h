/* Included by s8_dense.c: the exported function.
 *
 * Without a window tiles are read where they lie. With one they are gathered, so that no position between two rows of outputs is computed,
 * and one loop goes through all inputs: AC_PANEL_DEPTH quads at a time, between which sums are kept.
 * Many inputs become pairs instead where the machine is faster with those (s8_dense_pairs.h).
 */
static void gather(const ac_problem *p, const ac_source *source, const ac_place *place, const int32_t *offsets, int64_t first,
                   int64_t depth, ac_cuts *cuts, void *panel) {
  const int64_t quads = (p->columns + 3) / 4, width = place->width;
  const uint32_t *planes = source->planes, *from = planes + ac_first_pixel(source, place), fill = s8_fill(p);
  uint32_t *to = panel;
  for (int64_t n = first, rows; n < first + depth; n += rows, to += rows * width) {
    /* In place, tiles are cut in another way at every position of the window. */
    const int64_t window = n / quads, left = source->in_place ? (window + 1) * quads - n : depth;
    rows = left < first + depth - n ? left : first + depth - n;
    const ac_cut *cut = ac_cut_at(p, source, place, window, cuts);
    if (width == WIDE && cut->eights != 0)
      ac_gather_eights4(to, from, offsets + n, rows, WIDE, fill, cut, planes, source->pixels);
    else if (width == MIDDLE && cut->eights != 0)
      ac_gather_eights4(to, from, offsets + n, rows, MIDDLE, fill, cut, planes, source->pixels);
    else if (width == WIDE && source->flat != 0)
      ac_gather_masked4(to, from, offsets + n, rows, WIDE, fill, cut, planes, source->flat);
    else if (width == WIDE)
      ac_gather_rows4(to, from, offsets + n, rows, WIDE, fill, cut);
    else
      ac_gather_rows4(to, from, offsets + n, rows, width, fill, cut);
  }
}

static const ac_panels quad_panels = {{WIDE, MIDDLE, NARROW}, {tile_wide_part, tile_middle_part, tile_narrow_part}, gather};

static void dense_by_panels(const ac_problem *p, const ac_view *outputs, const ac_source *source, const ac_panels *panels, int64_t inputs,
                            void *y, void *scratch) {
  const int64_t rows = (p->rows + 3) / 4 * 4, *widths = panels->widths;
  int8_t *panel = scratch;
  int32_t *sums = (int32_t *)(panel + 4 * AC_PANEL_DEPTH * widths[0]), *offsets = sums + rows * widths[0];
  ac_input_offsets(p, source, (p->columns + 3) / 4, offsets);
  for (int64_t pixel = 0; pixel < outputs->positions;) {
    const ac_tile tile = ac_next_tile(outputs, pixel, widths[0], widths[1], widths[2]);
    const ac_place place = ac_place_of(p, outputs, tile.at, tile.width);
    ac_part_function *const run = panels->run[tile.width == widths[0] ? 0 : tile.width == widths[1] ? 1 : 2];
    ac_cuts cuts;
    ac_no_cuts(&cuts);
    for (int64_t first = 0; first < inputs; first += AC_PANEL_DEPTH) {
      const int64_t depth = inputs - first < AC_PANEL_DEPTH ? inputs - first : AC_PANEL_DEPTH;
      panels->gather(p, source, &place, offsets, first, depth, &cuts, panel);
      const ac_part part = {p, outputs, y, panel, depth, first == 0, first + depth == inputs, low_code(p), high_code(p)};
      for (int64_t row = 0; row < rows; row += 4)
        run(&part, &place, row, (const int8_t *)p->weights + STEP * (row / 4 * inputs + first), sums + row * tile.width);
    }
    pixel = tile.at + tile.width;
  }
}

void ac_s8_dense(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  if (!ac_s8_gathers(p)) {
    dense_by_offsets(p, x, x2, y, scratch);
    return;
  }
  const ac_view view = ac_view_of(p), outputs = ac_outputs_of(p);
  const int64_t quads = (p->columns + 3) / 4, inputs = p->kernel_height * p->kernel_width * quads;
  const ac_source source = ac_source_of(p, &view, quads, x, scratch);
  if (source.planes == scratch) PAD(p, &view, x, scratch);
  uint32_t *panel = (uint32_t *)((char *)scratch + (source.planes == scratch ? ac_copy_bytes(&view, quads, sizeof *panel) : 0));
#if AC_DOT2
  if (inputs >= FEWEST_PAIRS) {
    dense_by_pairs(p, &outputs, &source, inputs, y, panel);
    return;
  }
#endif
#if AC_I8MM
  const ac_panels *panels = ac_i8mm() ? &mmla_panels : &quad_panels;
#else
  const ac_panels *panels = &quad_panels;
#endif
  dense_by_panels(p, &outputs, &source, panels, inputs, y, panel);
}
