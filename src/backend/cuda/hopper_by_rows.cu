#include "backend/cuda/hopper_launch.cuh"

namespace moe::cuda::hopper {

void start_by_rows(const Launch& launch) { start_width<Grouping::rows, false>(launch); }

}  // namespace moe::cuda::hopper
