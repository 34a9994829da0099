// The group of GPUs that ranks make, as far as one GPU can show it. tests/e2e/ranks_test.py trains on several.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cuda/nccl_library.h"
#include "comm/one_rank.h"
#include "tests/backend/cuda/gpu_models.h"

namespace moe {
namespace {

TEST(Nccl, IsLoadedOrSaysWhatToInstall) {
  try {
    int version = 0;
    EXPECT_EQ(cuda::nccl().GetVersion(&version), 0);
    EXPECT_GE(version, 20000);  // 2.0.0; before 2.9 as 2xyy, so any NCCL 2 that is in use
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("install NCCL 2 (package libnccl2)"));
  }
}

TEST(Nccl, OfOneRankChangesNothing) {
  MOE_SKIP_WITHOUT("cuda");
  const auto device = make_cuda_device();
  const auto group = make_cuda_communicator(one_rank(), *device);
  EXPECT_EQ(group->size(), 1);
  EXPECT_EQ(group->rank(), 0);
  const std::vector<double> values{1, -2.5, 1e30};
  for (const DType dtype : {DType::f64, DType::f32, DType::i32}) {
    void* const data = device->allocate(values.size() * sizeof(double), "a test");
    const View view(data, dtype, {static_cast<int64_t>(values.size())});
    device->upload(data, values.data(), view.bytes());
    group->all_reduce(view);
    group->broadcast(view, 0);
    std::vector<char> back(view.bytes());
    device->download(back.data(), data, back.size());
    EXPECT_EQ(std::memcmp(back.data(), values.data(), back.size()), 0) << name(dtype);
    device->release(data);
  }
  const View text(nullptr, DType::u8, {0});
  EXPECT_THROW(group->all_reduce(text), Error);
  EXPECT_THAT(group->gather("here"), testing::ElementsAre("here"));
}

}  // namespace
}  // namespace moe
