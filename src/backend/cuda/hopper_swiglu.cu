#include "backend/cuda/hopper_launch.cuh"

namespace moe::cuda::hopper {

void start_by_rows_and_swiglu(const Launch& launch) {
  start<Grouping::rows, false, kSwigluColumns, Ending::swiglu>(launch);
}

}  // namespace moe::cuda::hopper
