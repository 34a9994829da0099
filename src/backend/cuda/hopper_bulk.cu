#include "backend/cuda/hopper_launch.cuh"
#include "backend/cuda/tensor_map.h"

namespace moe::cuda::hopper {

Bulk in_bulk(const View& stored, int box_rows) {
  return {.map = tensor_map(stored, box_rows, "a grouped product"), .present = true};
}

}  // namespace moe::cuda::hopper
