#include <bit>

#include <cub/device/device_radix_sort.cuh>

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/sort.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

__global__ void count_up_kernel(int* places, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) places[i] = static_cast<int>(i);
}

}  // namespace

Sorted sort_by_key(Context& context, Carver& carver, int* keys, int64_t count, int64_t limit) {
  MOE_CHECK(count <= INT32_MAX);
  auto* const places = carver.take<int>(count);
  auto* const sorted_keys = carver.take<int>(count);
  auto* const sorted_places = carver.take<int>(count);
  launch(context, count_up_kernel, blocks(ceil_div(count, kThreads)), kThreads, 0, places, count);
  const int bits = std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(limit))));
  const auto sort = [&](void* temporary, size_t& bytes) {
    check(cub::DeviceRadixSort::SortPairs(temporary, bytes, keys, sorted_keys, places, sorted_places,
                                          static_cast<int>(count), 0, bits, context.stream),
          "sorting on the GPU");
  };
  size_t bytes = 0;
  sort(nullptr, bytes);
  sort(carver.take<char>(static_cast<int64_t>(bytes)), bytes);
  return {sorted_keys, sorted_places};
}

}  // namespace moe::cuda
