// The bytes that collectives are said to move are those that sockets have moved.

#include "comm/traffic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.h"

namespace moe {
namespace {

/// Runs `work` on ranks that are sockets, and compares what each has moved with `expected(rank)`.
void expect_traffic(int size, const std::function<void(Communicator&)>& work,
                    const std::function<Traffic(int)>& expected) {
  std::vector<Traffic> moved(static_cast<size_t>(size));
  test::rethrow_first(test::try_on_sockets(size, [&](Communicator& communicator) {
    work(communicator);
    moved[static_cast<size_t>(communicator.rank())] = dynamic_cast<SocketCommunicator&>(communicator).traffic();
  }));
  for (int rank = 0; rank < size; ++rank) {
    const Traffic &found = moved[static_cast<size_t>(rank)], planned = expected(rank);
    EXPECT_EQ(found.sent, planned.sent) << rank;
    EXPECT_EQ(found.received, planned.received) << rank;
  }
}

class TrafficOf : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, TrafficOf, testing::Values(1, 2, 3, 4),
                         [](const auto& test) { return std::to_string(test.param); });

TEST_P(TrafficOf, SumsIsWhatIsMoved) {
  const int size = GetParam();
  for (const DType type : {DType::f32, DType::f64, DType::i32}) {
    const int64_t most_whole = kWholeBytes / bytes_of(type, 1);
    for (const int64_t elements : {int64_t{0}, int64_t{1}, most_whole, most_whole + 1, int64_t{100003}}) {
      SCOPED_TRACE(fmt::format("{} of {}", elements, name(type)));
      expect_traffic(
          size,
          [&](Communicator& communicator) {
            std::vector<double> memory(static_cast<size_t>(elements) + 1, 0.0);
            communicator.all_reduce(View(memory.data(), type, {elements}));
          },
          [&](int rank) { return all_reduce_traffic(type, elements, rank, size); });
      const int root = size - 1;
      expect_traffic(
          size,
          [&](Communicator& communicator) {
            std::vector<double> memory(static_cast<size_t>(elements) + 1, 0.0);
            communicator.reduce(View(memory.data(), type, {elements}), root, communicator.everyone());
          },
          [&](int rank) { return reduce_traffic(type, elements, root, rank, size); });
    }
  }
}

TEST_P(TrafficOf, BroadcastsAndGathersIsWhatIsMoved) {
  const int size = GetParam(), root = size - 1;
  expect_traffic(
      size,
      [&](Communicator& communicator) {
        std::vector<float> memory(1000, 0.0f);
        communicator.broadcast(View(memory.data(), DType::f32, {1000}), root);
        communicator.gather("three");
        std::vector<float> all(static_cast<size_t>(size) * 10, 0.0f);
        const View one(memory.data(), DType::f32, {10}), each(all.data(), DType::f32, {10 * size});
        communicator.all_gather(one, each, communicator.everyone());
        communicator.reduce_scatter(each, one, communicator.everyone());
      },
      [&](int rank) {
        Traffic all = broadcast_traffic(4000, root, rank, size);
        for (int i = 0; i < 2; ++i) all += each_to_all_traffic(40, size);
        return all += gather_traffic(5, size);
      });
}

}  // namespace
}  // namespace moe
