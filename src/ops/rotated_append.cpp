#include "ops/rotated_append.h"

#include "base/error.h"

namespace moe {

void check(const RotatedAppend& op) {
  check(op.rope);
  check(op.append);
  const View &x = op.rope.x, &k = op.append.k;
  if (k.size(1) > x.size(1) || k.size(0) != x.size(0) || !same_view(k, x.columns(x.size(1) - k.size(1), k.size(1)))) {
    fail("rotated_append: append.k is not the last columns of rope.x");
  }
  for (const View* view : {&op.append.v, &op.append.k_cache, &op.append.v_cache}) {
    if (overlap(x, *view)) fail("rotated_append: what is rotated overlaps values or the cache");
  }
}

}  // namespace moe
