#pragma once
/// Matrix products of any kind, by the fastest kernel that can take them.

#include "backend/cuda/context.h"
#include "backend/cuda/cuda_backend.h"
#include "ops/dense.h"

namespace moe::cuda {

/// Queues a Gemm: the operation itself, and a part of others.
void product(Context& context, const Gemm& op);

/// What force_cuda_path asked for.
CudaPath product_path();

/// Operations of fewer multiplications and additions cost nobody time, whichever kernel takes them.
constexpr int64_t kWorthAWarning = 1'000'000'000;

/// The multiprocessors that a kernel whose blocks take part after part is started for: the GPU's, or what
/// force_cuda_processors asked for.
int processors(const Context& context);

}  // namespace moe::cuda
