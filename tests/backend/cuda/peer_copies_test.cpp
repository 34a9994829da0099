// Sums and copies by the copy engines of several GPUs, against sums of the host. The ranks are processes, as they are
// in the program. (Three ranks as threads of one process hung. The cause was not found.)

#include "backend/cuda/peer_copies.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/backend/cuda/gpu_models.h"
#include "tests/support/rank_processes.h"

namespace moe {
namespace {

/// What a rank has at the beginning: numbers whose sum depends on the order.
std::vector<float> numbers(int rank, size_t count, int round) {
  std::mt19937 random(static_cast<uint32_t>(rank * 1000 + round));
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> sum_in_order(const RankGroup& group, size_t count, int round) {
  std::vector<float> sum = numbers(group.rank(0), count, round);
  for (int member = 1; member < group.count; ++member) {
    const std::vector<float> more = numbers(group.rank(member), count, round);
    for (size_t i = 0; i < count; ++i) sum[i] += more[i];
  }
  return sum;
}

class PeerCopiesOf : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    MOE_SKIP_WITHOUT("cuda");
    if (cuda_gpus() < GetParam()) GTEST_SKIP() << GetParam() << " GPUs are needed, " << cuda_gpus() << " are here";
  }
};

/// The sizes: less than a vector, with a tail, exactly one round of room, and several rounds.
constexpr size_t kSizes[] = {1, 7, 4096, 16384, 300007};

void expect_sums_and_copies(Communicator& hosts, cuda::CudaDevice& device, const RankGroup& group) {
  const int rank = hosts.rank();
  std::vector<View> tensors;
  for (const size_t size : kSizes) {
    tensors.push_back({device.allocate(size * sizeof(float), "a test"), DType::f32, {static_cast<int64_t>(size)}});
  }
  void* const busy = device.allocate(size_t{512} << 20, "a test");
  const size_t room = 4 * 16384 * (static_cast<size_t>(hosts.size()) - 1);
  {
    cuda::PeerCopies copies(hosts, device, tensors, room);
    ASSERT_EQ(copies.why_not(), "");
    for (int round = 0; round < 5; ++round) {
      SCOPED_TRACE(fmt::format("rank {} of {} by {}, round {}", rank, group.count, group.step, round));
      // Another rank is late each time, so that whoever does not wait reads too early.
      if (round % hosts.size() == rank) {
        for (int i = 0; i < 40; ++i) cudaMemsetAsync(busy, i, size_t{512} << 20, device.stream());
      }
      std::vector<Rooted> rooted;
      for (size_t i = 0; i < tensors.size(); ++i) {
        const std::vector<float> values = numbers(rank, kSizes[i], round);
        device.upload(tensors[i].data, values.data(), tensors[i].bytes());
        rooted.push_back({tensors[i], group.rank((static_cast<int>(i) + round) % group.count), group});
      }
      EXPECT_TRUE(copies.have(rooted));
      copies.reduce(rooted, device.stream());
      copies.broadcast(rooted, device.stream());
      copies.finish(device.stream());
      for (size_t i = 0; i < tensors.size(); ++i) {
        std::vector<float> found(kSizes[i]);
        device.download(found.data(), tensors[i].data, tensors[i].bytes());
        EXPECT_EQ(found, sum_in_order(group, kSizes[i], round)) << kSizes[i] << " numbers";
      }
    }
    const Rooted unknown{View(busy, DType::f32, {1}), group.rank(0), group};
    EXPECT_EQ(copies.have(std::vector<Rooted>{unknown}), group.count == 1);  // where nothing is to be read
    hosts.gather("");  // nobody releases what another one may still read
  }
  device.release(busy);
  for (const View& tensor : tensors) device.release(tensor.data);
}

void expect_sums_and_copies_of_groups(Communicator& hosts) {
  const auto device = make_cuda_device(hosts.rank());
  auto& gpu = dynamic_cast<cuda::CudaDevice&>(*device);
  const int rank = hosts.rank(), half = hosts.size() / 2;
  expect_sums_and_copies(hosts, gpu, hosts.everyone());
  if (hosts.size() % 2 != 0) return;
  expect_sums_and_copies(hosts, gpu, {.first = rank / half * half, .count = half, .step = 1});
  expect_sums_and_copies(hosts, gpu, {.first = rank % half, .count = 2, .step = half});
}

TEST(PeerCopiesOfThisRank, AddInTheirOrder) {
  if (!test::as_rank_process(expect_sums_and_copies_of_groups)) GTEST_SKIP() << "PeerCopiesOf runs it";
}

TEST_P(PeerCopiesOf, RanksAddInTheirOrder) {
  EXPECT_EQ(
      test::failure_of_rank_processes("PeerCopiesOfThisRank.AddInTheirOrder", GetParam(), std::chrono::minutes(2)), "");
}

INSTANTIATE_TEST_SUITE_P(, PeerCopiesOf, testing::Values(2, 3, 4, 8));

}  // namespace
}  // namespace moe
