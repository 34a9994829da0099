#include "cli/bench_machine.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>

#include "infer/arenas.h"

namespace moe {
namespace {

template <class Work>
double best_seconds(Device& device, int repeats, Work work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= repeats; ++i) {
    const double start = wall_seconds();
    work();
    device.synchronize();
    if (i > 0) best = std::min(best, wall_seconds() - start);
  }
  return best;
}

}  // namespace

double measure_product(Backend& backend, Device& device, DType dtype, int64_t n, int repeats) {
  DeviceMemory memory(device);
  const Shape shape{n, n};
  const auto matrix = [&](DType type) {
    const size_t bytes = static_cast<size_t>(shape.elements()) * size_of(type);
    return memory.arena("a benchmark's matrix", bytes + 64).push("matrix", type, shape);
  };
  const Gemm product{.a = matrix(dtype), .b = matrix(dtype), .c = matrix(DType::f32)};
  backend.run(Fill{.x = product.a, .value = 0.5});
  backend.run(Fill{.x = product.b, .value = 0.25});
  return static_cast<double>(flops(product)) / best_seconds(device, repeats, [&] { backend.run(product); });
}

double measure_copy(Backend& backend, Device& device, int64_t bytes, int repeats) {
  DeviceMemory memory(device);
  const Shape shape{bytes / 4};
  const auto tensor = [&] {
    return memory.arena("a benchmark's tensor", static_cast<size_t>(bytes) + 64).push("tensor", DType::f32, shape);
  };
  const Cast copy{.x = tensor(), .y = tensor()};
  backend.run(Fill{.x = copy.x, .value = 1});
  return static_cast<double>(traffic_bytes(copy)) / best_seconds(device, repeats, [&] { backend.run(copy); });
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace moe
