#include "ops/routed_ffn.h"

#include <vector>

#include "base/error.h"

namespace moe {
namespace {

struct Accesses {
  std::vector<View> written, all;

  template <class Op>
  void add(const Op& op) {
    for_each_view(op, [&](const Field<Op>& field, const View& view) {
      all.push_back(view);
      if (field.role != Role::in) written.push_back(view);
    });
  }
  void require_apart(const Accesses& other) const {
    for (const View& mine : written) {
      for (const View& theirs : other.all) {
        if (overlap(mine, theirs))
          fail("routed_ffn: a result of the shared or the routed experts overlaps the others'");
      }
    }
  }
};

}  // namespace

void check(const RoutedFfn& op) {
  check(op.norm);
  check(op.route);
  check(op.shared);
  check(op.shared_down);
  check(op.experts);
  check(op.combine);
  for (const View* read : {&op.route.scores.x, &op.shared.product.a, &op.experts.first.a}) {
    if (!same_view(*read, op.norm.y)) fail("routed_ffn: what is routed or multiplied is not the norm's result");
  }
  if (!same_view(op.shared_down.a, op.shared.activation.y)) {
    fail("routed_ffn: shared_down.a is not the activation of the shared experts");
  }
  if (!same_view(op.combine.y, op.shared_down.c) || !op.combine.accumulate) {
    fail("routed_ffn: what is combined is not added to the shared experts' result");
  }
  Accesses shared, routed;
  shared.add(op.shared.product);
  shared.add(op.shared.activation);
  shared.add(op.shared_down);
  routed.add(op.route.scores);
  routed.add(op.route.choice);
  routed.add(op.route.gates);
  routed.add(op.route.plan);
  routed.add(op.experts.first);
  routed.add(op.experts.activation);
  routed.add(op.experts.last);
  shared.require_apart(routed);
  routed.require_apart(shared);
}

}  // namespace moe
