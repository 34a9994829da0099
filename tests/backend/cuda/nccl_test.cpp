// The groups of GPUs that ranks make; on one GPU as far as it can show it. tests/e2e/ranks_test.py trains on several.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cuda/nccl_library.h"
#include "comm/one_rank.h"
#include "tests/backend/cuda/gpu_models.h"
#include "tests/support/ranks.h"

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

/// A GPU's tensor of f32, with what a rank puts there.
class OnGpu {
 public:
  OnGpu(Device& device, const std::vector<float>& values) : device_(device), count_(values.size()) {
    data_ = device.allocate(values.size() * sizeof(float), "a test");
    device.upload(data_, values.data(), values.size() * sizeof(float));
  }
  ~OnGpu() { device_.release(data_); }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

  View view() const { return {data_, DType::f32, {static_cast<int64_t>(count_)}}; }
  std::vector<float> values() const {
    std::vector<float> found(count_);
    device_.download(found.data(), data_, count_ * sizeof(float));
    return found;
  }

 private:
  Device& device_;
  void* data_ = nullptr;
  size_t count_;
};

// Answers on several ranks ask for no times, however long they are.
TEST(Nccl, TimesAnyNumberOfSums) {
  MOE_SKIP_WITHOUT("cuda");
  const auto device = make_cuda_device();
  const auto group = make_cuda_communicator(one_rank(), *device);
  const OnGpu tensor(*device, {1, 2});
  for (int i = 0; i < 10000; ++i) group->all_reduce(tensor.view());
  EXPECT_GT(group->take_exposed_seconds(), 0);
  EXPECT_EQ(group->take_exposed_seconds(), 0);
}

/// Numbers whose sums over ranks are exact in any order.
std::vector<float> numbers(int rank, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = static_cast<float>((i * 7 + 3) % 1000 * (static_cast<size_t>(rank) + 1));
  return values;
}

std::vector<float> sums(const RankGroup& group, size_t count) {
  std::vector<float> total(count);
  for (int member = 0; member < group.count; ++member) {
    const std::vector<float> part = numbers(group.rank(member), count);
    for (size_t i = 0; i < count; ++i) total[i] += part[i];
  }
  return total;
}

void expect_collectives(Communicator& ranks, Device& device, const RankGroup& group) {
  const int rank = ranks.rank(), last = group.rank(group.count - 1);
  const auto members = static_cast<size_t>(group.count), own = static_cast<size_t>(group.member(rank));
  for (const size_t part : {size_t{1}, size_t{1000}, size_t{300007}}) {
    const size_t count = part * members;
    SCOPED_TRACE(fmt::format("rank {} of {} by {}, {} numbers", rank, group.count, group.step, count));
    const std::vector<float> sum = sums(group, count);
    const std::vector<float> share(sum.begin() + static_cast<ptrdiff_t>(own * part),
                                   sum.begin() + static_cast<ptrdiff_t>((own + 1) * part));
    std::vector<float> all;
    for (int member = 0; member < group.count; ++member) {
      const std::vector<float> theirs = numbers(group.rank(member), part);
      all.insert(all.end(), theirs.begin(), theirs.end());
    }
    const OnGpu x(device, numbers(rank, count)), scattered(device, std::vector<float>(part));
    ranks.reduce_scatter(x.view(), scattered.view(), group);
    EXPECT_EQ(scattered.values(), share);
    ranks.all_reduce(x.view(), group);
    EXPECT_EQ(x.values(), sum);
    const OnGpu small(device, numbers(rank, part)), gathered(device, std::vector<float>(count));
    ranks.all_gather(small.view(), gathered.view(), group);
    EXPECT_EQ(gathered.values(), all);
    ranks.broadcast(small.view(), last, group);
    EXPECT_EQ(small.values(), numbers(last, part));

    // Two tensors aside, with different roots, while the device's stream goes on.
    const OnGpu a(device, numbers(rank, count)), b(device, numbers(rank, part)), c(device, numbers(rank, part));
    ranks.reduce_aside({{a.view(), last, group}, {b.view(), group.rank(0), group}});
    ranks.all_gather(c.view(), gathered.view(), group);
    ranks.await();
    EXPECT_EQ(gathered.values(), all);
    if (rank == last) {
      EXPECT_EQ(a.values(), sum);
    }
    if (rank == group.rank(0)) {
      EXPECT_EQ(b.values(), sums(group, part));
    }
    ranks.broadcast_aside({{c.view(), last, group}, {b.view(), group.rank(0), group}});
    ranks.await();
    EXPECT_EQ(c.values(), numbers(last, part));
    EXPECT_EQ(b.values(), sums(group, part));
    ranks.reduce(c.view(), last, group);
    if (rank == last) {
      EXPECT_EQ(c.values()[0], 3 * static_cast<float>((last + 1) * group.count));
    }
  }
}

/// Along the line of ranks, more often between the first ones, and both ways at the same time.
void expect_exchanges(Communicator& ranks, Device& device) {
  const int rank = ranks.rank();
  const bool last = rank + 1 == ranks.size();
  for (const size_t count : {size_t{1}, size_t{300007}}) {
    const OnGpu own(device, numbers(rank, count)), other(device, std::vector<float>(count));
    for (int round = 0; round < 3; ++round) {
      if (rank > 0) {
        ranks.exchange({}, {{other.view(), rank - 1}});
        EXPECT_EQ(other.values(), numbers(rank - 1, count));
      }
      if (!last) ranks.exchange({{own.view(), rank + 1}}, {});
    }
    if (rank > 1) continue;
    ranks.exchange({{own.view(), 1 - rank}}, {{other.view(), 1 - rank}});
    EXPECT_EQ(other.values(), numbers(1 - rank, count));
  }
}

/// The members of a group call what the others do not.
void expect_sums_in_a_group_alone(Communicator& ranks, Device& device) {
  const int half = ranks.size() / 2, rank = ranks.rank();
  const RankGroup group{.first = rank / half * half, .count = half, .step = 1};
  ranks.prepare({group});
  for (int round = 0; round < (group.first == 0 ? 1 : 3); ++round) {
    const OnGpu x(device, numbers(rank, 1000));
    ranks.all_reduce(x.view(), group);
    EXPECT_EQ(x.values(), sums(group, 1000));
  }
}

TEST(Nccl, MovesWhatIsOnTheGpusOfAllRanks) {
  MOE_SKIP_WITHOUT("cuda");
  const int gpus = std::min(cuda_gpus(), 4);
  if (gpus < 2) GTEST_SKIP() << "two GPUs are needed, " << gpus << " is here";
  test::on_ranks(gpus, [&](Communicator& hosts) {
    const auto device = make_cuda_device(hosts.rank());
    const auto ranks = make_cuda_communicator(hosts, *device);
    expect_collectives(*ranks, *device, ranks->everyone());
    expect_exchanges(*ranks, *device);
    if (gpus % 2 != 0) return;
    expect_sums_in_a_group_alone(*ranks, *device);
    const int half = gpus / 2, rank = ranks->rank();
    expect_collectives(*ranks, *device, {.first = rank / half * half, .count = half, .step = 1});
    expect_collectives(*ranks, *device, {.first = rank % half, .count = 2, .step = half});
  });
}

}  // namespace
}  // namespace moe
