// A cache that is used again gives the bits of a fresh one, whatever changes between two calls: the tokens, or the
// routing.

#include "infer/context_cache.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/routing_change.h"
#include "tests/infer/chat_support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using Logits = std::vector<float>;

Logits fresh(const Ids& ids, const RoutingSwitches& switches = {}, const std::string& model = "moe_basic") {
  return Cached(switches, 400, model).cache.logits_after(ids);
}

Ids first(const Ids& ids, size_t count) { return {ids.begin(), ids.begin() + static_cast<int64_t>(count)}; }

TEST(ContextCache, ComputesOnlyWhatIsNewAndGivesTheSameBits) {
  Cached cached;
  const Ids a = random_ids(90, 59, 1), b = random_ids(40, 59, 2);
  Ids forked = first(a, 70);
  forked.insert(forked.end(), b.begin(), b.end());
  struct Step {
    Ids ids;
    int64_t reused;
  };
  for (const Step& step : {Step{first(a, 30), 0}, Step{a, 30}, Step{forked, 70}, Step{forked, 109}, Step{b, 0},
                           Step{first(b, 10), 9}, Step{first(b, 11), 10}, Step{a, 0}}) {
    ASSERT_NE(a[0], b[0]);
    ASSERT_NE(a[70], b[0]);
    EXPECT_EQ(cached.cache.logits_after(step.ids), fresh(step.ids)) << step.ids.size();
    EXPECT_EQ(cached.cache.reused(), step.reused);
    EXPECT_EQ(cached.cache.ids(), step.ids);
  }
  const Ids longer = first(a, 90);
  Ids with_next = longer;
  with_next.push_back(7);
  EXPECT_EQ(cached.cache.logits_after_next(7), fresh(with_next));
}

TEST(ContextCache, KeepsWhatItComputedBeforeItWasStopped) {
  Cached cached({}, 2000);
  const Ids ids = random_ids(1500, 59, 4);
  std::vector<int64_t> seen;
  const auto stop_at = [&](int64_t stop) {
    return [&seen, stop](int64_t done, int64_t total) {
      EXPECT_EQ(total, 1500);
      seen.push_back(done);
      return done < stop;
    };
  };
  EXPECT_TRUE(cached.cache.logits_after(ids, stop_at(1000)).empty());
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 512, 1024}));
  EXPECT_EQ(cached.cache.ids().size(), 1024u);
  const Logits logits = cached.cache.logits_after(ids);
  EXPECT_EQ(cached.cache.reused(), 1024);
  EXPECT_EQ(logits, Cached({}, 2000).cache.logits_after(ids));
}

TEST(ContextCache, RemembersTheExpertsOfEveryToken) {
  Cached whole, pieces;
  const Ids ids = random_ids(50, 59, 5);
  whole.cache.logits_after(ids);
  pieces.cache.logits_after(first(ids, 20));
  pieces.cache.logits_after(first(ids, 35));
  for (size_t t = 35; t < 50; ++t) pieces.cache.logits_after_next(ids[t]);
  const auto a = whole.cache.chosen(0, 50), b = pieces.cache.chosen(0, 50);
  EXPECT_EQ(a.size(), 50u * 2 * 3);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  const auto part = whole.cache.chosen(10, 11);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), a.begin() + 10 * 6));
}

// Layer 1 is the first with experts, layer 2 the last of all.
TEST(ContextCache, KeepsTheTokensBeforeTheFirstThatChoseAMaskedExpert) {
  const Ids ids = random_ids(60, 59, 6);
  std::set<int64_t> kept_counts;
  for (int64_t expert = 0; expert < 9; ++expert) {
    Cached cached;
    cached.cache.logits_after(ids);
    const auto chosen = cached.cache.chosen(0, 60);
    int64_t expected = 0;
    while (expected < 60 && std::count(chosen.begin() + expected * 6, chosen.begin() + expected * 6 + 3, expert) == 0) {
      ++expected;
    }
    const RoutingSwitches masked{.masked = {{.layer = 1, .experts = {expert}}}};
    cached.cache.set_switches(masked);
    EXPECT_EQ(static_cast<int64_t>(cached.cache.ids().size()), expected);
    EXPECT_EQ(cached.cache.logits_after(ids), fresh(ids, masked));
    kept_counts.insert(expected);
    cached.cache.set_switches({});  // its score rises: any token may want it
    EXPECT_EQ(cached.cache.ids().size(), 0u);
    EXPECT_EQ(cached.cache.logits_after(ids), fresh(ids));
  }
  EXPECT_GT(*kept_counts.rbegin(), 1) << "some expert is not chosen by the first tokens";
}

TEST(ContextCache, AChangeInTheLastLayerKeepsEveryToken) {
  const Ids ids = random_ids(60, 59, 7);
  Cached cached;
  const Logits plain = cached.cache.logits_after(ids);
  int changed = 0;
  for (const RoutingSwitches& switches :
       {RoutingSwitches{.masked = {{.layer = 2, .experts = {0, 1, 2, 3, 4, 5}}}},
        RoutingSwitches{.boosted = {{.layer = 2, .expert = 8, .value = 1}}}, RoutingSwitches{}}) {
    cached.cache.set_switches(switches);
    EXPECT_EQ(cached.cache.ids(), ids);
    const Logits logits = cached.cache.logits_after(ids);
    EXPECT_EQ(cached.cache.reused(), 59);
    EXPECT_EQ(logits, fresh(ids, switches));
    changed += logits == plain ? 0 : 1;
  }
  EXPECT_GT(changed, 0);
}

TEST(ContextCache, OtherNumbersOfExpertsComputeEverythingAgain) {
  const Ids ids = random_ids(60, 59, 8);
  Cached cached;
  cached.cache.logits_after(ids);
  for (const RoutingSwitches& switches :
       {RoutingSwitches{.experts_per_token = 7}, RoutingSwitches{.experts_per_token = 1}, RoutingSwitches{.skip = 2},
        RoutingSwitches{.drop_shared = true}, RoutingSwitches{}}) {
    cached.cache.set_switches(switches);
    EXPECT_EQ(cached.cache.ids().size(), 0u);
    EXPECT_EQ(cached.cache.logits_after(ids), fresh(ids, switches));
  }
}

TEST(ContextCache, ARefusedChangeChangesNothing) {
  const Ids ids = random_ids(20, 59, 9);
  Cached cached;
  const Logits logits = cached.cache.logits_after(ids);
  EXPECT_THROW(cached.cache.set_switches({.masked = {{.layer = 0, .experts = {1}}}}), Error);
  EXPECT_THROW(cached.cache.set_switches({.experts_per_token = 10}), Error);
  EXPECT_FALSE(cached.cache.switches().any());
  EXPECT_EQ(cached.cache.ids(), ids);
  EXPECT_EQ(cached.cache.logits_after(ids), logits);
}

/// Any walk through switches and texts, for methods that choose in different ways.
class RoutingWalk : public testing::TestWithParam<const char*> {};

TEST_P(RoutingWalk, GivesTheBitsOfAFreshCacheAtEveryStep) {
  Cached cached({}, 400, GetParam());
  const ModelConfig own = cached.loaded.own_config();
  const Random random(11, hash_name(GetParam()));
  uint64_t draw = 0;
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random.below(draw++, static_cast<uint64_t>(n))); };
  std::vector<int64_t> moe_layers;
  for (int64_t layer = 0; layer < own.num_hidden_layers; ++layer) {
    if (own.is_moe_layer(layer)) moe_layers.push_back(layer);
  }
  const auto layer = [&] { return moe_layers[static_cast<size_t>(below(static_cast<int64_t>(moe_layers.size())))]; };
  Ids ids = random_ids(50, 59, 10);
  cached.cache.logits_after(ids);
  int64_t kept_some = 0, refused = 0;
  RoutingSwitches switches;
  for (int step = 0; step < 40; ++step) {
    RoutingSwitches next = switches;
    switch (below(6)) {
      case 0:
      case 1:
        next.masked.push_back({.layer = layer(), .experts = {below(own.n_routed_experts)}});
        break;
      case 2:
        next.boosted.push_back({.layer = layer(), .expert = below(own.n_routed_experts), .value = -0.2});
        break;
      case 3:
        next.boosted.push_back({.layer = layer(), .expert = below(own.n_routed_experts), .value = 0.1});
        break;
      case 4:
        next.skip = below(2);
        break;
      default:
        next = {};
    }
    try {
      cached.cache.set_switches(next);
      switches = next;
    } catch (const Error&) {
      ++refused;  // a mask that leaves too few experts
    }
    const size_t kept = cached.cache.ids().size();
    if (kept > 0 && kept < ids.size()) ++kept_some;
    if (below(3) == 0) ids.resize(ids.size() - static_cast<size_t>(below(10)));
    while (ids.size() < 50) ids.push_back(static_cast<int32_t>(below(59)));
    ASSERT_EQ(cached.cache.logits_after(ids), fresh(ids, switches, GetParam())) << "step " << step;
  }
  EXPECT_LT(refused, 20);
  if (own.topk_group == own.n_group) {
    EXPECT_GT(kept_some, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, RoutingWalk,
                         testing::Values("moe_basic", "moe_gqa_norm", "device_limited", "loss_free_sigmoid", "mixtral",
                                         "noisy_topk"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace moe::test
