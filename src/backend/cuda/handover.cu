#include "backend/cuda/early.cuh"
#include "backend/cuda/handover.h"

namespace moe::cuda {
namespace {

/// One block. It does not let the next kernel start, so none sees flags of the last replay.
__global__ void clear_kernel(int* flags, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) flags[i] = 0;
  __threadfence();
}

}  // namespace

std::optional<Handover> take_handover(const Context& context, Written* recording) {
  if (recording == nullptr || context.compute_capability < 90 || 2 * recording->handovers + 2 > kFlags) {
    return std::nullopt;
  }
  int* const flags = context.counters + kCounters;
  if (recording->handovers == 0) launch(context, clear_kernel, dim3(1), dim3(256), 0, flags, static_cast<int>(kFlags));
  int* const mine = flags + int64_t{2} * recording->handovers++;
  return Handover{.arrived = mine, .ready = mine + 1};
}

}  // namespace moe::cuda
