#pragma once
/// Dense products with cuBLASLt. The library is asked once for the algorithm of a shape, so a shape always gets the
/// same one, and gives the same bits every time.

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "backend/cuda/workspace.h"
#include "ops/dense.h"

namespace moe::cuda {

/// For one thread at a time.
class CublasProducts {
 public:
  CublasProducts();
  ~CublasProducts();
  CublasProducts(const CublasProducts&) = delete;
  CublasProducts& operator=(const CublasProducts&) = delete;

  /// Queues the product and returns true. Returns false, with nothing queued, if the library does not support it:
  /// operands of two types, or unsuitable addresses. f32 operands are multiplied in f32, never in TF32.
  bool run(const Gemm& op, cudaStream_t stream, const Workspace& workspace);

 private:
  struct Plan;
  /// Sizes, strides, types and transposes, alignments, workspace.
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int, int, size_t>;
  const Plan& plan_for(const Gemm& op, size_t workspace_bytes);

  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace moe::cuda
