/* The exported function of an int8 matrix kernel: make the view, then go through the positions in tiles.
 *
 * Uses KERNEL, VIEW_OF(p), PAD(p, view, x, scratch), BLOCK_ELEMENT, and the functions tile_*, single_pixel and begin_of: with what sums of
 * all rows begin in the former, for which there is room. Tiles are WIDE, MIDDLE or NARROW. With AC_VNNI those that are not narrow are
 * instead up to MOST_VECTORS vectors, as equal as can be, by tile_functions[vectors - 1].
 */

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = VIEW_OF(p);
  if (view.copied) PAD(p, &view, x, scratch);
  if (ac_spreads(p, &view)) ac_spread(p, &view, x, (p->columns + 3) / 4, scratch);
  const BLOCK_ELEMENT *from = view.copied || ac_spreads(p, &view) ? scratch : x;
  const int32_t *begin = p->start;
  if (view.positions > 1) begin = begin_of(p, (char *)scratch + ac_copy_bytes(&view, (p->columns + 3) / 4, 4));
#if AC_VNNI
  if (view.positions >= LANES_WIDE || (view.copied && view.positions > 1)) {
    const int64_t vectors = (view.positions + LANES_WIDE - 1) / LANES_WIDE, tiles = (vectors + MOST_VECTORS - 1) / MOST_VECTORS;
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t first = vectors * t / tiles, behind = vectors * (t + 1) / tiles, at = LANES_WIDE * first;
      const int64_t width = behind == vectors && !view.copied ? view.positions - at : LANES_WIDE * (behind - first);
      tile_functions[behind - first - 1](p, &view, from, begin, y, (ac_tile){at, width});
    }
    return;
  }
#endif
  for (int64_t position = 0; position < view.positions;) {
    const ac_tile tile = ac_next_tile(&view, position, WIDE, MIDDLE, NARROW);
#if !AC_VNNI
    if (tile.width == WIDE)
      tile_wide(p, &view, from, begin, y, tile);
    else if (tile.width == MIDDLE)
      tile_middle(p, &view, from, begin, y, tile);
    else
#endif
    if (tile.width == NARROW)
      tile_narrow(p, &view, from, begin, y, tile);
    else
      single_pixel(p, &view, from, y, tile.at);
    position = tile.at + tile.width;
  }
}
