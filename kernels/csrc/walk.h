/* The exported function of an int8 matrix kernel: make the view, then go through the positions in tiles.
 *
 * Uses KERNEL, WIDE, MIDDLE, NARROW, PAD(p, view, x, scratch), BLOCK_ELEMENT, and the functions tile_* and single_pixel.
 */

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) PAD(p, &view, x, scratch);
  const BLOCK_ELEMENT *from = view.copied ? scratch : x;
  for (int64_t position = 0; position < view.positions;) {
    const ac_tile tile = ac_next_tile(&view, position, WIDE, MIDDLE, NARROW);
    if (tile.width == WIDE)
      tile_wide(p, &view, from, y, tile.at);
    else if (tile.width == MIDDLE)
      tile_middle(p, &view, from, y, tile.at);
    else if (tile.width == NARROW)
      tile_narrow(p, &view, from, y, tile.at);
    else
      single_pixel(p, &view, from, y, tile.at);
    position = tile.at + tile.width;
  }
}
