#include "backend/cuda/hopper_launch.cuh"

namespace moe::cuda::hopper {

void start_by_rows_across(const Launch& launch) { start_width<Grouping::rows, true>(launch); }

}  // namespace moe::cuda::hopper
