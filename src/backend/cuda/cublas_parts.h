#pragma once
/// Products that are parts of a larger one.

#include "ops/dense.h"

namespace moe::cuda {

/// While it exists, cuBLASLt's products of this thread are some columns of `whole` each. They get the algorithm for all
/// of its columns, so that sums are cut in the same places, wherever the columns are.
class PartOf {
 public:
  explicit PartOf(const Gemm& whole);
  ~PartOf();
  PartOf(const PartOf&) = delete;
  PartOf& operator=(const PartOf&) = delete;

 private:
  const Gemm* before_;
};

}  // namespace moe::cuda
