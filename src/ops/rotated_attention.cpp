#include "ops/rotated_attention.h"

#include <utility>

#include "base/error.h"

namespace moe {

void check(const RotatedAttention& op) {
  check(op.rope);
  check(op.append);
  check(op.attention);
  const View &x = op.rope.x, &k = op.append.k, &q = op.attention.q;
  if (k.size(1) > x.size(1) || k.size(0) != x.size(0) || !same_view(k, x.columns(x.size(1) - k.size(1), k.size(1)))) {
    fail("rotated_attention: append.k is not the last columns of rope.x");
  }
  if (q.size(1) + k.size(1) != x.size(1) || !same_view(q, x.columns(0, q.size(1)))) {
    fail("rotated_attention: attention.q is not the columns of rope.x before append.k");
  }
  for (const auto& [appended, attended] : {std::pair(&op.append.sequence, &op.attention.sequence),
                                           {&op.append.positions, &op.attention.positions},
                                           {&op.append.pages, &op.attention.pages},
                                           {&op.append.k_cache, &op.attention.k_cache},
                                           {&op.append.v_cache, &op.attention.v_cache}}) {
    if (!same_view(*appended, *attended))
      fail("rotated_attention: append and attention differ in the cache or its order");
  }
  for (const View* view : {&op.append.v, &op.append.k_cache, &op.append.v_cache}) {
    if (overlap(x, *view)) fail("rotated_attention: what is rotated overlaps values or the cache");
  }
  for (const View* view : {&x, &op.append.v, &op.append.k_cache, &op.append.v_cache}) {
    if (overlap(op.attention.out, *view)) fail("rotated_attention: attention.out overlaps what is rotated or appended");
  }
}

}  // namespace moe
