/* EACH_BLOCK(group) { ... } of the matrix kernels: a loop over the blocks of a group of rows, in whose body BLOCK_INPUT points at the
 * block's inputs for the tile's first position, and `weights` at its weights.
 *
 * It uses the names of the function around it: p, view, x, weights, offsets. Dense kernels go through all columns of every position of
 * the window. Sparse ones take the next counts[group] offsets. A block has STEP elements of weights; one step of columns is UNIT
 * elements wide (4 for quads).
 */
#if SPARSE
#define EACH_BLOCK(group) \
  for (const int32_t *last = offsets + p->counts[group]; offsets != last; offsets++, weights += STEP)
#define BLOCK_INPUT (x + UNIT * (int64_t)*offsets)
#else
#define EACH_BLOCK(group)                                                                             \
  for (int64_t window = 0, windows = p->kernel_height * p->kernel_width; window < windows; window++)  \
    for (int64_t at = offsets[window], end = at + (p->columns + UNIT - 1) / UNIT * view->plane; at != end; \
         at += view->plane, weights += STEP)
#define BLOCK_INPUT (x + UNIT * at)
#endif
