/* The exported function of a matrix kernel: make the view, then go through the positions in tiles.
 *
 * Uses KERNEL, WIDE, MIDDLE, NARROW, PAD(p, view, x, scratch), BLOCK_ELEMENT, and the functions tile_* and single_pixel; with PANEL tiles are given the scratch behind
 * the copy of x.
 */
#if PANEL
#define AC_TILE_ARGUMENTS p, &view, from, y, tile.at, panel
#else
#define AC_TILE_ARGUMENTS p, &view, from, y, tile.at
#endif

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) PAD(p, &view, x, scratch);
  const BLOCK_ELEMENT *from = view.copied ? scratch : x;
#if PANEL
  BLOCK_ELEMENT *panel = (BLOCK_ELEMENT *)((char *)scratch + ac_copy_bytes(&view, p->columns, sizeof *from));
#endif
  for (int64_t position = 0; position < view.positions;) {
    const ac_tile tile = ac_next_tile(&view, position, WIDE, MIDDLE, NARROW);
    if (tile.width == WIDE)
      tile_wide(AC_TILE_ARGUMENTS);
    else if (tile.width == MIDDLE)
      tile_middle(AC_TILE_ARGUMENTS);
    else if (tile.width == NARROW)
      tile_narrow(AC_TILE_ARGUMENTS);
    else
      single_pixel(p, &view, from, y, tile.at);
    position = tile.at + tile.width;
  }
}
