#include <gmock/gmock.h>

#include "tests/backend/cpu/tensors.h"

namespace moe::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(CpuDevice, CountsWhatIsAllocated) {
  const auto device = make_cpu_device();
  void* const small = device->allocate(100, "a small block");
  void* const large = device->allocate(size_t{5} << 20, "a large block");
  void* const empty = device->allocate(0, "nothing");
  for (void* data : {small, large, empty}) EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
  EXPECT_EQ(device->allocated_bytes(), 100 + (5 << 20));
  EXPECT_EQ(device->allocations(), 3);
  std::memset(large, 1, size_t{5} << 20);
  device->release(small);
  device->release(large);
  device->release(empty);
  device->release(nullptr);
  EXPECT_EQ(device->allocated_bytes(), 0);
  EXPECT_EQ(device->allocations(), 3);
}

TEST(CpuDevice, CopiesBothWays) {
  const auto device = make_cpu_device();
  const std::vector<int> numbers = {1, 2, 3};
  void* const data = device->allocate(sizeof(int) * 3, "numbers");
  device->upload(data, numbers.data(), sizeof(int) * 3);
  std::vector<int> back(3);
  device->download(back.data(), data, sizeof(int) * 3);
  EXPECT_EQ(back, numbers);
  device->release(data);
}

TEST(CpuDevice, RefusalNamesPurposeAndSize) {
  const auto device = make_cpu_device();
  for (const size_t bytes : {size_t{1} << 60, ~size_t{0} - 100}) {
    try {
      device->allocate(bytes, "the optimiser's moments");
      FAIL() << "an impossible allocation succeeded";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("the optimiser's moments"), HasSubstr("GiB")));
    }
  }
  EXPECT_EQ(device->allocated_bytes(), 0);
}

TEST(CpuDevice, TellsTheScratchOfLivingBackends) {
  const auto device = make_cpu_device();
  const int64_t before = device->info().scratch_bytes;
  EXPECT_GT(device->info().available_bytes, before);
  EXPECT_GE(device->info().memory_bytes, device->info().available_bytes);
  EXPECT_FALSE(device->info().name.empty());
  {
    Cpu cpu(2);
    const int64_t held = device->info().scratch_bytes - before;
    EXPECT_GT(held, 0);
    Cpu other(1);
    EXPECT_EQ(device->info().scratch_bytes - before, held + held / 2);
  }
  EXPECT_EQ(device->info().scratch_bytes, before);
}

}  // namespace
}  // namespace moe::test
