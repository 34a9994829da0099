#include "measure/machine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/clock.h"
#include "base/random.h"
#include "model/pass_memory.h"

namespace moe {
namespace {

/// Each measurement repeats the work until it takes long enough for the clock and for the device's queue.
template <class Work>
double best_seconds(Device& device, int repeats, Work work) {
  constexpr double kLeastSeconds = 0.03;
  const auto seconds_of = [&](int64_t times) {
    const double start = steady_seconds();
    for (int64_t i = 0; i < times; ++i) work();
    device.synchronize();
    return (steady_seconds() - start) / static_cast<double>(times);
  };
  seconds_of(1);
  const auto times = static_cast<int64_t>(std::clamp(std::ceil(kLeastSeconds / seconds_of(1)), 1.0, 1e4));
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) best = std::min(best, seconds_of(times));
  return best;
}

}  // namespace

void fill_randomly(Backend& backend, Device& device, const View& matrix, uint64_t stream, double deviation) {
  const int64_t block = std::min<int64_t>(matrix.elements(), int64_t{1} << 20);
  std::vector<float> values(static_cast<size_t>(block));
  Random(1, stream).normals(0, block, deviation, values.data());
  DeviceMemory memory(device);
  const View source = memory.arena("random values", values.size() * sizeof(float) + Arena::kAlignment)
                          .push("values", DType::f32, {block});
  device.upload(source.data, values.data(), source.bytes());
  const View flat = matrix.reshaped({matrix.elements()});
  for (int64_t begin = 0; begin < flat.elements(); begin += block) {
    const int64_t count = std::min(block, flat.elements() - begin);
    backend.run(Cast{.x = source.rows(0, count), .y = flat.rows(begin, count)});
  }
  device.synchronize();
}

double measure_product(Backend& backend, Device& device, DType dtype, int64_t n, int repeats) {
  DeviceMemory memory(device);
  const Shape shape{n, n};
  const auto matrix = [&](DType type) {
    const size_t bytes = static_cast<size_t>(bytes_of(type, shape.elements()));
    return memory.arena("a benchmark's matrix", bytes + Arena::kAlignment).push("matrix", type, shape);
  };
  const Gemm product{.a = matrix(dtype), .b = matrix(dtype), .c = matrix(DType::f32)};
  fill_randomly(backend, device, product.a, 0);
  fill_randomly(backend, device, product.b, 1);
  return static_cast<double>(flops(product)) / best_seconds(device, repeats, [&] { backend.run(product); });
}

double measure_copy(Backend& backend, Device& device, int64_t bytes, int repeats) {
  DeviceMemory memory(device);
  const Shape shape{bytes / 4};
  const auto tensor = [&] {
    return memory.arena("a benchmark's tensor", static_cast<size_t>(bytes) + Arena::kAlignment)
        .push("tensor", DType::f32, shape);
  };
  const Cast copy{.x = tensor(), .y = tensor()};
  fill_randomly(backend, device, copy.x, 2);
  return static_cast<double>(traffic_bytes(copy)) / best_seconds(device, repeats, [&] { backend.run(copy); });
}

double measure_read(Backend& backend, Device& device, int64_t bytes, int repeats) {
  DeviceMemory memory(device);
  const Shape shape{bytes / 4};
  const View tensor = memory.arena("a benchmark's tensor", static_cast<size_t>(bytes) + Arena::kAlignment)
                          .push("tensor", DType::f32, shape);
  const View sum = memory.arena("a benchmark's sum", Arena::kAlignment).push("sum", DType::f64, {1});
  fill_randomly(backend, device, tensor, 3);
  backend.run(Fill{.x = sum, .value = 0});
  const SumSquares read{.x = tensor, .sum = sum};
  return static_cast<double>(tensor.bytes()) / best_seconds(device, repeats, [&] { backend.run(read); });
}

double measure_in_registers(ThreadPool& pool, const std::function<int64_t()>& work, int repeats) {
  double best = 0;
  for (int i = 0; i < repeats; ++i) {
    std::vector<int64_t> done(static_cast<size_t>(pool.size()));
    const double start = steady_seconds();
    pool.parallel_for(pool.size(), [&](int64_t task, int) { done[static_cast<size_t>(task)] = work(); });
    const double seconds = steady_seconds() - start;
    best = std::max(best, static_cast<double>(std::accumulate(done.begin(), done.end(), int64_t{0})) / seconds);
  }
  return best;
}

}  // namespace moe
