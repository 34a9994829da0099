#pragma once
/// A fixture for tests that run operations on the GPU. Its memory exists as long as the test and is filled from random
/// streams.

#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/backend/cuda/gpu_models.h"

namespace moe {

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT("cuda");
    gpu_.emplace("cuda");
  }
  ~GpuTest() override {
    force_cuda_path(CudaPath::automatic);
    force_cuda_processors(0);
    for (void* data : allocations_) gpu_->device->release(data);
  }

  View empty(DType dtype, Shape shape) {
    allocations_.push_back(gpu_->device->allocate(static_cast<size_t>(shape.elements()) * size_of(dtype), "a test"));
    return View(allocations_.back(), dtype, shape);
  }
  View floats(DType dtype, Shape shape) {
    // Normal numbers from one table. Its length is prime, so that no two rows are equal.
    static const std::vector<float> table = [] {
      std::vector<float> numbers(1048573);
      for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(Random(3, 0).normal(i));
      return numbers;
    }();
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    const size_t start = ++streams_ * 7919;
    for (size_t i = 0; i < values.size(); ++i) values[i] = table[(start + i) % table.size()];
    const View view = empty(DType::f32, shape);
    gpu_->device->upload(view.data, values.data(), view.bytes());
    if (dtype == DType::f32) return view;
    const View result = empty(dtype, shape);
    gpu_->backend->run(Cast{.x = view, .y = result});
    return result;
  }
  View integers(const std::vector<int32_t>& values) {
    const View view = empty(DType::i32, {static_cast<int64_t>(values.size())});
    gpu_->device->upload(view.data, values.data(), view.bytes());
    return view;
  }
  /// The values of a view of any float type.
  std::vector<float> values(const View& view) {
    const View as_f32 = empty(DType::f32, view.shape);
    gpu_->backend->run(Cast{.x = view, .y = as_f32});
    return download_floats(*gpu_->device, as_f32);
  }

  std::optional<Machine> gpu_;
  std::vector<void*> allocations_;
  uint64_t streams_ = 0;
};

}  // namespace moe
