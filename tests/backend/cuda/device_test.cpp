// Memory of the GPU and the sentences for what it lacks.

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/backend/cuda/gpu_models.h"

namespace moe {
namespace {

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT("cuda");
    device_ = make_cuda_device();
  }
  std::unique_ptr<Device> device_;
};

TEST_F(CudaDeviceTest, WhatIsUploadedComesBack) {
  std::vector<int32_t> values(size_t{12} << 20);  // several times the pinned memory
  std::iota(values.begin(), values.end(), 7);
  std::vector<int32_t> back(values.size());
  void* const data = device_->allocate(values.size() * sizeof(int32_t), "a test");
  device_->upload(data, values.data(), values.size() * sizeof(int32_t));
  std::vector<int32_t> other(10, -1);
  device_->upload(static_cast<int32_t*>(data) + 5, other.data(), other.size() * sizeof(int32_t));
  device_->download(back.data(), data, back.size() * sizeof(int32_t));
  std::copy(other.begin(), other.end(), values.begin() + 5);
  EXPECT_EQ(back, values);
  device_->release(data);
  EXPECT_EQ(device_->allocated_bytes(), 0);
}

TEST_F(CudaDeviceTest, ALateCopyHasWhatTheWorkBeforeItLeft) {
  void* const data = device_->allocate(sizeof(int32_t), "a test");
  const auto first = device_->late_copy(sizeof(int32_t)), second = device_->late_copy(sizeof(int32_t));
  const auto write = [&](int32_t value) { device_->upload(data, &value, sizeof value); };
  const auto value_of = [](LateCopy& copy) { return *static_cast<const int32_t*>(copy.wait()); };
  for (int32_t round = 0; round < 100; round += 2) {
    write(round);
    first->start(data);
    write(round + 1);
    second->start(data);
    write(-1);
    EXPECT_EQ(value_of(*first), round);
    EXPECT_EQ(value_of(*second), round + 1);
  }
  device_->release(data);
}

TEST_F(CudaDeviceTest, TooMuchMemoryIsRefusedByName) {
  try {
    device_->allocate(size_t{1} << 50, "an impossible tensor");
    FAIL() << "there is no such GPU";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("an impossible tensor: 1125899906842624 bytes of GPU memory are needed"));
  }
  void* const data = device_->allocate(1000, "what fits");  // the failure has left nothing behind
  EXPECT_NE(data, nullptr);
}

}  // namespace
}  // namespace moe
