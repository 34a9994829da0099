/// What capacity and thinning take away, on every backend: nothing gets lost in the accounts.

#include <algorithm>

#include "tests/conformance/on_every_target.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {
namespace {

using oracle::read_indices;

/// Rows of tokens with two choices each.
struct Queue {
  static constexpr int64_t kRows = 3, kLength = 20, kTokens = kRows * kLength, kExperts = 5;
  Store s;
  View ids, gates, group;

  explicit Queue(uint64_t seed)
      : s(seed),
        ids(s.poison(i32, {kTokens, 2})),
        gates(s.poison(f32, {kTokens, 2})),
        group(s.constant(i32, {kTokens}, 0)) {
    Indices padding(group.shape);
    for (int64_t t = 0; t < kTokens; ++t) padding(t) = t % kLength < kLength - t / kLength ? 0 : -1;  // 20, 19, 18
    oracle::write(group, padding);
    const View scores = s.poison(f32, {kTokens, kExperts});
    oracle::compute(
        RouterScores{.x = s.normal(f32, {kTokens, 6}), .weight = s.normal(f32, {kExperts, 6}), .scores = scores});
    oracle::compute(RouterTopk{.scores = scores, .group = group, .ids = ids});
    oracle::compute(RouterGates{.scores = scores, .ids = ids, .form = GateForm::normalized, .gates = gates});
  }
  Indices kept(const Runner& run, float threshold, int64_t factor, int64_t& dropped) {
    const View kept = s.poison(i32, ids.shape), count = s.constant(i32, {1}, 0);
    run(RouterDrop{.ids = ids,
                   .gates = gates,
                   .group = group,
                   .experts = kExperts,
                   .threshold = threshold,
                   .draws = {.seed = 3, .stream = 4},
                   .factor = factor,
                   .row_length = kLength,
                   .kept = kept,
                   .dropped = count});
    dropped = read_indices(count)(0);
    return read_indices(kept);
  }
  static int64_t chosen(const Indices& ids) {
    const auto& values = ids.values();
    return std::count_if(values.begin(), values.end(), [](int64_t id) { return id >= 0; });
  }
};

TEST(Capacity, KeptDroppedAndThinnedChoicesAddUpToTheChosen) {
  on_every_target([&](const Runner& run) {
    Queue queue(1);
    const int64_t all = Queue::chosen(read_indices(queue.ids));
    EXPECT_EQ(all, 2 * (20 + 19 + 18));
    int64_t dropped = -1;
    const int64_t after_thinning = Queue::chosen(queue.kept(run, 0.9f, 0, dropped));
    EXPECT_EQ(dropped, 0) << "what is thinned out is not dropped";
    EXPECT_LT(after_thinning, all);
    for (const int64_t factor : {kMillion / 2, kMillion, 2 * kMillion}) {
      const int64_t kept = Queue::chosen(queue.kept(run, 0.9f, factor, dropped));
      EXPECT_EQ(kept + dropped, after_thinning) << factor;
      EXPECT_GT(dropped, 0);
      const int64_t without_thinning = Queue::chosen(queue.kept(run, 0, factor, dropped));
      EXPECT_EQ(without_thinning + dropped, all) << factor;
    }
  });
}

TEST(Capacity, NoExpertTakesMoreOfARowThanItHasRoomForNorLessThanItCould) {
  on_every_target([&](const Runner& run) {
    Queue queue(2);
    int64_t dropped = 0, refused = 0;
    const Indices ids = read_indices(queue.ids), kept = queue.kept(run, 0, kMillion, dropped);
    for (int64_t row = 0; row < Queue::kRows; ++row) {
      const int64_t room = expert_capacity(Queue::kLength - row, Queue::kExperts, kMillion);
      EXPECT_EQ(room, 4) << "a fifth of 20, 19, 18, rounded up";
      for (int64_t e = 0; e < Queue::kExperts; ++e) {
        int64_t wanted = 0, taken = 0;
        for (int64_t t = row * Queue::kLength; t < (row + 1) * Queue::kLength; ++t) {
          for (int64_t k = 0; k < 2; ++k) {
            wanted += ids(t, k) == e;
            taken += kept(t, k) == e;
            EXPECT_TRUE(kept(t, k) == ids(t, k) || kept(t, k) == -1);
          }
        }
        EXPECT_EQ(taken, std::min(wanted, room));
        refused += wanted - taken;
      }
    }
    EXPECT_EQ(dropped, refused) << "the reported number is that of a recount";
  });
}

// Tokens 0 to 3 of one row choose (0, 1), (1, 0), (0, 1), (0, 1); each expert of two has room for two.
TEST(Capacity, FirstChoicesQueueInTokenOrderAndSecondOnesBehindThemAll) {
  on_every_target([&](const Runner& run) {
    Store s(3);
    const View kept = s.poison(i32, {4, 2}), dropped = s.constant(i32, {1}, 0);
    run(RouterDrop{.ids = s.indices({4, 2}, {0, 1, 1, 0, 0, 1, 0, 1}),
                   .gates = s.constant(f32, {4, 2}, 0.5),
                   .group = s.constant(i32, {4}, 0),
                   .experts = 2,
                   .factor = kMillion,
                   .row_length = 4,
                   .kept = kept,
                   .dropped = dropped});
    // Expert 0: tokens 0 and 2 first; 3 comes too late, and 1's second choice though it stands earlier. Expert 1: token
    // 1, then the second choice of 0.
    EXPECT_EQ(read_indices(kept).values(), (std::vector<int64_t>{0, 1, 1, -1, 0, -1, -1, -1}));
    EXPECT_EQ(read_indices(dropped)(0), 4);
  });
}

}  // namespace
}  // namespace moe::conformance
