#pragma once
/// Dense products by cuBLASLt. The library is asked once for the algorithm of a shape, so that a shape always gets the
/// same one: the same bits every time.

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "backend/cuda/workspace.h"
#include "ops/dense.h"

namespace moe::cuda {

class CublasProducts {
 public:
  CublasProducts();
  ~CublasProducts();
  CublasProducts(const CublasProducts&) = delete;
  CublasProducts& operator=(const CublasProducts&) = delete;

  /// Queues the product and says true; false, with nothing queued, when the library does not have it: operands of two
  /// types, or addresses that it cannot take. f32 operands are multiplied in f32, never TF32.
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
