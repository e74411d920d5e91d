/* Included by float_4oc.h: the exported function of a sparse kernel.
 *
 * Positions are cut into tiles, and for a few of them together come all rows, 4 at a time: for every 4 rows all tiles. They have the same number
 * of blocks, so that the end of their loops is foreseen, and go on along the same rows of x and y, which are fewer pages than all of them.
 * Together the tiles read as much of x as stays near: where loads wait, in L1; with AVX the loops hide the time that L2 takes.
 */
#if defined(__AVX__)
#define NEAR_BYTES (1 << 17)
#else
#define NEAR_BYTES (1 << 14)
#endif
#define MOST_TILES 16

/* As many as `most` wide tiles from `position` on, and the narrower one behind the last of all. */
static int64_t cut(const ac_problem *p, const ac_view *view, int64_t position, int64_t most, ac_spot *spots) {
  int64_t count = 0;
  while (position < view->positions && count <= most) {
    const ac_tile next = ac_next_tile(view, position, WIDE, MIDDLE, NARROW);
    const ac_tile tile = position + 1 == view->positions ? (ac_tile){position, 1} : next;
    if (tile.width == WIDE && count == most) break;
    spots[count++] = (ac_spot){tile.at, ac_place_of(p, view, tile.at, tile.width)};
    position = tile.at + tile.width;
  }
  return count;
}

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) PAD(p, &view, x, scratch);
  const element *from = view.copied ? scratch : x;
  const int64_t room = NEAR_BYTES / (p->columns * WIDE * (int64_t)sizeof *from);
  const int64_t most = room < 1 ? 1 : room < MOST_TILES ? room : MOST_TILES;
  ac_spot spots[MOST_TILES + 1];
  for (int64_t position = 0; position < view.positions;) {
    const int64_t count = cut(p, &view, position, most, spots);
    int64_t wide = 0;
    while (wide < count && spots[wide].place.width == WIDE) wide++;
    if (wide > 0) tile_wide(p, &view, spots, wide, from, y);
    const ac_spot *last = spots + count - 1;
    if (last->place.width == MIDDLE)
      tile_middle(p, &view, last, 1, from, y);
    else if (last->place.width == NARROW)
      tile_narrow(p, &view, last, 1, from, y);
    else if (last->place.width == 1)
      single_pixel(p, &last->place, from + last->position, y);
    position = last->position + last->place.width;
  }
}
