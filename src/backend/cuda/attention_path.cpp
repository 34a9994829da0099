#include "backend/cuda/attention_path.h"

namespace moe::cuda {
namespace {

constexpr int64_t kChunk = 8;  // elements of 16 bytes

bool in_chunks(const View& view) {
  bool whole = view.dtype == DType::bf16 && reinterpret_cast<uintptr_t>(view.data) % 16 == 0;
  for (int axis = 0; axis + 1 < view.rank(); ++axis)
    whole = whole && view.stride[static_cast<size_t>(axis)] % kChunk == 0;
  return whole;
}

template <class Op>
CudaPath choose(const Op& op, std::initializer_list<View> views, CudaPath forced, int compute_capability) {
  const int64_t size = op.q.size(1) / op.heads;
  // With a scale above 0, the largest score stays the largest when scaled.
  bool tensor = forced != CudaPath::simt && size % kChunk == 0 && size <= 128 && op.scale > 0;
  for (const View& view : views) tensor = tensor && in_chunks(view);
  if (!tensor) return CudaPath::simt;
#ifdef MOE_CUDA_HOPPER
  const bool compiled = true;
#else
  const bool compiled = false;
#endif
  const bool hopper = compiled && compute_capability == 90 && forced != CudaPath::tensor &&
                      forced != CudaPath::portable && forced != CudaPath::invariant && (size == 64 || size == 128) &&
                      op.q.size(0) < INT32_MAX - 128;
  return hopper ? CudaPath::hopper : CudaPath::tensor;
}

}  // namespace

CudaPath attention_path(const Attention& op, CudaPath forced, int compute_capability) {
  return choose(op, {op.q, op.k, op.v, op.out}, forced, compute_capability);
}

CudaPath attention_path(const CachedAttention& op, CudaPath forced, int compute_capability) {
  const CudaPath path = choose(op, {op.q, op.k_cache, op.v_cache, op.out}, forced, compute_capability);
  return path == CudaPath::hopper && op.k_cache.size(1) % 64 != 0 ? CudaPath::tensor : path;
}

CudaPath attention_path(const AttentionBackward& op, CudaPath forced, int compute_capability) {
  return choose(op, {op.q, op.k, op.v, op.out, op.d_out, op.dq, op.dk, op.dv}, forced, compute_capability);
}

}  // namespace moe::cuda
