#include "backend/cuda/hopper_launch.cuh"

namespace moe::cuda::hopper {

void start_reduction(const Launch& launch) { start_width<Grouping::reduction, true>(launch); }

}  // namespace moe::cuda::hopper
