#include "plan.h"

#include <stdlib.h>

static int64_t size_of(const ac_block *block) { return AC_ALIGNED(block->bytes); }

static int larger_first(const void *a, const void *b) {
  const ac_block *one = a, *two = b;
  if (one->bytes != two->bytes) return one->bytes < two->bytes ? 1 : -1;
  return (one->order > two->order) - (one->order < two->order);
}

static int given_order(const void *a, const void *b) {
  const ac_block *one = a, *two = b;
  return (one->order > two->order) - (one->order < two->order);
}

int64_t ac_plan(ac_block *blocks, int64_t count) {
  for (int64_t i = 0; i < count; i++) blocks[i].order = i;
  qsort(blocks, (size_t)count, sizeof *blocks, larger_first);
  int64_t end = 0;
  for (int64_t i = 0; i < count; i++) {
    /* Those before i have their places and are sorted by offset: go up until there is room below the next one in the way. */
    ac_block block = blocks[i];
    block.offset = 0;
    for (int64_t n = 0; n < i; n++) {
      if (blocks[n].last < block.first || block.last < blocks[n].first) continue;
      if (blocks[n].offset >= block.offset + size_of(&block)) break;
      const int64_t above = blocks[n].offset + size_of(&blocks[n]);
      if (above > block.offset) block.offset = above;
    }
    if (block.offset + size_of(&block) > end) end = block.offset + size_of(&block);
    int64_t at = i;
    for (; at > 0 && blocks[at - 1].offset > block.offset; at--) blocks[at] = blocks[at - 1];
    blocks[at] = block;
  }
  qsort(blocks, (size_t)count, sizeof *blocks, given_order);
  return end;
}
