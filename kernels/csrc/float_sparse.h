/* The exported function of a sparse float kernel.
 *
 * Positions are cut into tiles, and for some of them together come all rows: for 4 rows all of these tiles, then for the next 4. Their loops are
 * as long as one another, so that the end is foreseen, and they go on along the same rows of x and y. Together they read no more
 * of x than NEAR_BYTES. Kernels whose rows keep their own inputs take one tile at a time.
 *
 * Uses KERNEL, PAD(p, view, x, scratch), NEAR_BYTES, single_pixel, and TILES: {width, function} from the widest to the narrowest.
 */
#define MOST_SPOTS 16

/* All rows of `count` tiles. */
typedef void tile_function(const ac_problem *p, const ac_view *view, const ac_spot *spots, int64_t count, const element *x, element *y);

static const struct {
  int64_t width;
  tile_function *run;
} tiles[] = {TILES, {1, single_pixel}};

/* Which of them comes next when so many positions are left: the narrowest that holds them all, else the widest there is room for. A copy
 * may be run over; elsewhere the last tile begins early and computes some pixels twice, which costs less than narrow tiles, unless the two
 * next narrower ones hold what is left. */
static int64_t next_tile(const ac_view *view, int64_t left) {
  const int64_t single = sizeof tiles / sizeof *tiles - 1;
  int64_t chosen = single;
  for (int64_t kind = 0; kind < single && left > 1; kind++)
    if ((view->copied || tiles[kind].width <= view->positions) && (chosen == single || tiles[kind].width >= left)) chosen = kind;
  const int64_t spare = chosen + 2 < single && tiles[chosen].width > left;
  return spare && tiles[chosen + 1].width + tiles[chosen + 2].width >= left ? chosen + 1 : chosen;
}

void KERNEL(const ac_problem *p, const void *x, const void *x2, void *y, void *scratch) {
  (void)x2;
  const ac_view view = ac_view_of(p);
  if (view.copied) PAD(p, &view, x, scratch);
  const element *from = view.copied ? scratch : x;
  /* Rows of inputs under a row of outputs; with a stride also columns that lie apart. */
  const int64_t window_rows = p->kernel_height * (p->kernel_width < p->stride_width ? p->kernel_width : p->stride_width);
  ac_spot spots[MOST_SPOTS];
  for (int64_t position = 0; position < view.positions;) {
    const int64_t kind = next_tile(&view, view.positions - position), width = tiles[kind].width;
    const int64_t room = NEAR_BYTES / (p->columns * window_rows * width * (int64_t)sizeof *from);
    int64_t count = 0;
    do {
      const int64_t at = view.copied || position + width <= view.positions ? position : view.positions - width;
      spots[count++] = (ac_spot){at, ac_place_of(p, &view, at, width)};
      position = at + width;
    } while (width > 1 && count < room && count < MOST_SPOTS && position < view.positions &&
             next_tile(&view, view.positions - position) == kind);
    tiles[kind].run(p, &view, spots, count, from, y);
  }
}
