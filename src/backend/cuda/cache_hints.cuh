#pragma once
/// What the L2 cache is to keep. A step reads more weights than it holds, so without hints they push out what every
/// layer needs: activations, positions, and the code of the kernels.

#include "backend/cuda/kernel.cuh"

namespace moe::cuda {

/// The policy of loads whose data leaves the cache first, because nobody reads it again, or of usual ones.
__device__ inline uint64_t load_policy(bool once) {
  uint64_t policy;
  if (once) {
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  } else {
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  }
  return policy;
}

/// Asks for this chunk's line in the L2 cache. It may be written meanwhile: what is read later is what was written.
__device__ inline void ask_for_chunk(const Matrix& m, int64_t row, int64_t column, int64_t width) {
  if (column >= width) return;
  const char* const address = static_cast<const char*>(m.data) + (row * m.step + column) * (m.bf16 ? 2 : 4);
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

}  // namespace moe::cuda
