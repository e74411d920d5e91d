/* The exported function of an int8 matrix kernel: make the view, then go through the positions in tiles.
 *
 * Uses KERNEL, WIDE, MIDDLE, NARROW, PAD(p, view, x, scratch), BLOCK_ELEMENT, and the functions tile_*, single_pixel and begin_of: with
 * what sums of all rows begin in the former, for which there is room.
 */

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) PAD(p, &view, x, scratch);
  const BLOCK_ELEMENT *from = view.copied ? scratch : x;
  const int32_t *begin = p->start;
  if (view.positions > 1) begin = begin_of(p, (char *)scratch + ac_copy_bytes(&view, (p->columns + 3) / 4, 4));
  for (int64_t position = 0; position < view.positions;) {
    const ac_tile tile = ac_next_tile(&view, position, WIDE, MIDDLE, NARROW);
    if (tile.width == WIDE)
      tile_wide(p, &view, from, begin, y, tile.at);
    else if (tile.width == MIDDLE)
      tile_middle(p, &view, from, begin, y, tile.at);
    else if (tile.width == NARROW)
      tile_narrow(p, &view, from, begin, y, tile.at);
    else
      single_pixel(p, &view, from, y, tile.at);
    position = tile.at + tile.width;
  }
}
