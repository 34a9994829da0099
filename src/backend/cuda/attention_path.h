#pragma once
/// Chooses the kernels of an attention operation. Needs no GPU.

#include "backend/cuda/path.h"
#include "ops/attention.h"

namespace moe::cuda {

/// The best path that `forced` allows (CudaPath::automatic: all), that supports the operation's views, and that this
/// program and a GPU of this compute capability (90 for 9.0) have:
///   hopper: bf16 heads of 64 or 128 elements, every row 16-byte aligned, at most 2^31 - 129 tokens;
///   tensor: bf16 heads of whole 16-byte chunks up to 128 elements, every row 16-byte aligned;
///   simt: anything.
CudaPath attention_path(const Attention& op, CudaPath forced, int compute_capability);
CudaPath attention_path(const AttentionBackward& op, CudaPath forced, int compute_capability);
/// The same; hopper needs pages of whole 64 tokens. It is for tiles of queries; other tokens take tensor's kernel.
CudaPath attention_path(const CachedAttention& op, CudaPath forced, int compute_capability);

}  // namespace moe::cuda
