#pragma once
/// Tests of properties that every backend must have, written once.

#include <gtest/gtest.h>

#include "tests/conformance/compare.h"
#include "tests/conformance/targets.h"

namespace moe::conformance {

/// A target that runs operations with host views.
class Runner {
 public:
  explicit Runner(const Target& target) : target_(target) {}
  template <class Op>
  void operator()(const Op& op) const {
    run_on(*target_.device, target_.backend(), op);
  }

 private:
  const Target& target_;
};

enum class Where { everywhere, batch_invariant };

/// Calls check(run) for each target, or only for those whose rows do not depend on their neighbours. Failures name the
/// target.
template <class Check>
void on_every_target(Where where, const Check& check) {
  for (const Target& target : targets()) {
    if (where == Where::batch_invariant && !target.batch_invariant) continue;
    SCOPED_TRACE(target.name);
    check(Runner(target));
  }
}

template <class Check>
void on_every_target(const Check& check) {
  on_every_target(Where::everywhere, check);
}

}  // namespace moe::conformance
