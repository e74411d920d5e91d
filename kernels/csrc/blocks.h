/* EACH_BLOCK of the matrix kernels: a loop over the blocks of a group of rows, with `from` at the block's inputs for the tile's
 * first position. It uses the names of the function around it: p, view, x, weights, offsets.
 *
 * Dense kernels go through all columns of every position of the window. Sparse ones take the next counts[group] offsets. A block has
 * STEP elements of weights; one step of columns is UNIT elements wide (4 for quads).
 */
#if SPARSE
#define EACH_BLOCK(group)                                                                                     \
  for (const int32_t *last = offsets + p->counts[group]; offsets != last; offsets++, weights += STEP)         \
    for (const BLOCK_ELEMENT *from = x + UNIT * (int64_t)*offsets, *once = from; once != NULL; once = NULL)
#else
#define EACH_BLOCK(group)                                                                                     \
  for (int64_t window = 0, windows = p->kernel_height * p->kernel_width; window < windows; window++)          \
    for (int64_t column = 0, at = offsets[window]; column < (p->columns + UNIT - 1) / UNIT;                   \
         column++, at += view->plane, weights += STEP)                                                        \
      for (const BLOCK_ELEMENT *from = x + UNIT * at, *once = from; once != NULL; once = NULL)
#endif
