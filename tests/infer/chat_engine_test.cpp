// A cache that is used again gives the bits of a fresh one, whatever changes between two calls: the tokens, or the
// routing.

#include "infer/chat_engine.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/routing_change.h"
#include "tests/infer/chat_support.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

using Logits = std::vector<double>;  // of all ids, as log-probabilities

Logits fresh(const Ids& ids, const RoutingSwitches& switches = {}, const std::string& model = "moe_basic") {
  return Cached(switches, 400, model).after(ids);
}

Ids first(const Ids& ids, size_t count) { return {ids.begin(), ids.begin() + static_cast<int64_t>(count)}; }

TEST(ChatEngine, ComputesOnlyWhatIsNewAndGivesTheSameBits) {
  Cached cached;
  const Ids a = random_ids(90, 59, 1), b = random_ids(40, 59, 2);
  Ids forked = first(a, 75);
  forked.insert(forked.end(), b.begin(), b.end());
  struct Step {
    Ids ids;
    int64_t reused;
  };
  for (const Step& step : {Step{first(a, 30), 0}, Step{a, 30}, Step{forked, 75}, Step{forked, 114}, Step{b, 0},
                           Step{first(b, 10), 9}, Step{first(b, 11), 10}, Step{a, 0}}) {
    ASSERT_NE(a[0], b[0]);
    ASSERT_NE(a[75], b[0]);
    EXPECT_EQ(cached.after(step.ids), fresh(step.ids)) << step.ids.size();
    EXPECT_EQ(cached.engine.reused(), step.reused);
    EXPECT_EQ(cached.engine.ids(), step.ids);
  }
}

TEST(ChatEngine, KeepsWhatItComputedBeforeItWasStopped) {
  Cached cached({}, 2000);
  const Ids ids = random_ids(1500, 59, 4);
  std::vector<int64_t> seen;
  const auto stop = [&] {
    seen.push_back(cached.engine.read());
    return seen.back() < 1000;
  };
  EXPECT_TRUE(cached.after(ids, stop).empty());
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 512, 1024}));
  EXPECT_EQ(cached.engine.ids().size(), 1024u);
  const Logits logits = cached.after(ids);
  EXPECT_EQ(cached.engine.reused(), 1024);
  EXPECT_EQ(logits, Cached({}, 2000).after(ids));
  const auto chosen = cached.engine.chosen(0, 1500);
  Cached whole({}, 2000);
  whole.after(ids);
  const auto expected = whole.engine.chosen(0, 1500);
  EXPECT_TRUE(std::equal(chosen.begin(), chosen.end(), expected.begin(), expected.end()));
}

TEST(ChatEngine, RemembersTheExpertsOfEveryToken) {
  Cached whole, pieces;
  const Ids ids = random_ids(50, 59, 5);
  whole.after(ids);
  pieces.after(first(ids, 20));
  pieces.after(first(ids, 35));
  for (size_t t = 36; t <= 50; ++t) pieces.after(first(ids, t));
  const auto a = whole.engine.chosen(0, 50), b = pieces.engine.chosen(0, 50);
  EXPECT_EQ(a.size(), 50u * 2 * 3);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  const auto part = whole.engine.chosen(10, 11);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), a.begin() + 10 * 6));
}

// Layer 1 is the first with experts, layer 2 the last of all.
TEST(ChatEngine, KeepsTheTokensBeforeTheFirstThatChoseAMaskedExpert) {
  const Ids ids = random_ids(60, 59, 6);
  std::set<int64_t> kept_counts;
  for (int64_t expert = 0; expert < 9; ++expert) {
    Cached cached;
    cached.after(ids);
    const auto chosen = cached.engine.chosen(0, 60);
    int64_t expected = 0;
    while (expected < 60 && std::count(chosen.begin() + expected * 6, chosen.begin() + expected * 6 + 3, expert) == 0) {
      ++expected;
    }
    const RoutingSwitches masked{.masked = {{.layer = 1, .experts = {expert}}}};
    cached.engine.set_switches(masked);
    EXPECT_EQ(static_cast<int64_t>(cached.engine.ids().size()), expected);
    EXPECT_EQ(cached.after(ids), fresh(ids, masked));
    kept_counts.insert(expected);
    cached.engine.set_switches({});  // its score rises: any token may want it
    EXPECT_EQ(cached.engine.ids().size(), 0u);
    EXPECT_EQ(cached.after(ids), fresh(ids));
  }
  EXPECT_GT(*kept_counts.rbegin(), 1) << "some expert is not chosen by the first tokens";
}

TEST(ChatEngine, AChangeInTheLastLayerKeepsEveryToken) {
  const Ids ids = random_ids(60, 59, 7);
  Cached cached;
  const Logits plain = cached.after(ids);
  int changed = 0;
  for (const RoutingSwitches& switches :
       {RoutingSwitches{.masked = {{.layer = 2, .experts = {0, 1, 2, 3, 4, 5}}}},
        RoutingSwitches{.boosted = {{.layer = 2, .expert = 8, .value = 1}}}, RoutingSwitches{}}) {
    cached.engine.set_switches(switches);
    EXPECT_EQ(cached.engine.ids(), ids);
    const Logits logits = cached.after(ids);
    EXPECT_EQ(cached.engine.reused(), 59);
    EXPECT_EQ(logits, fresh(ids, switches));
    changed += logits == plain ? 0 : 1;
  }
  EXPECT_GT(changed, 0);
}

TEST(ChatEngine, OtherNumbersOfExpertsComputeEverythingAgain) {
  const Ids ids = random_ids(60, 59, 8);
  Cached cached;
  cached.after(ids);
  for (const RoutingSwitches& switches :
       {RoutingSwitches{.experts_per_token = 7}, RoutingSwitches{.experts_per_token = 1}, RoutingSwitches{.skip = 2},
        RoutingSwitches{.drop_shared = true}, RoutingSwitches{}}) {
    cached.engine.set_switches(switches);
    EXPECT_EQ(cached.engine.ids().size(), 0u);
    EXPECT_EQ(cached.after(ids), fresh(ids, switches));
  }
}

TEST(ChatEngine, ARefusedChangeChangesNothing) {
  const Ids ids = random_ids(20, 59, 9);
  Cached cached;
  const Logits logits = cached.after(ids);
  EXPECT_THROW(cached.engine.set_switches({.masked = {{.layer = 0, .experts = {1}}}}), Error);
  EXPECT_THROW(cached.engine.set_switches({.experts_per_token = 10}), Error);
  EXPECT_FALSE(cached.engine.switches().any());
  EXPECT_EQ(cached.engine.ids(), ids);
  EXPECT_EQ(cached.after(ids), logits);
}

// In its prompt and later.
TEST(ChatEngine, ARequestThatFailsCanEndAndTheNextOneGetsTheBitsOfAFreshCache) {
  const Ids ids = random_ids(150, 59, 12);
  Cached cached;
  FailingBackend failing(*cached.cpu.backend);
  ChatEngine engine(cached.loaded, nullptr, *cached.cpu.device, failing, {.most_tokens = 200, .tokens_per_pass = 60});
  const Request request{.prompt = {ids}, .options = {.max_new_tokens = 9, .sampling = {.temperature = 0}}};
  const auto answer = [&] {
    Ids answered;
    engine.begin(request);
    for (bool ended = false; !ended;) {
      for (const Event& event : engine.step()) {
        if (event.id) answered.push_back(*event.id);
        ended = event.ended;
      }
    }
    return answered;
  };
  const Ids expected = answer();
  ASSERT_EQ(expected.size(), 9u);
  const Ids cached_ids = engine.ids();
  EXPECT_EQ(cached_ids.size(), 158u);
  for (int at = 1; at < 540; at += 49) {
    engine.set_switches({.skip = 1});  // so that everything is computed again
    engine.set_switches({});
    EXPECT_TRUE(engine.ids().empty());
    failing.fail_at(at);
    EXPECT_THROW(answer(), Error) << at;
    engine.end();
    engine.end();
    failing.fail_at(0);
    EXPECT_TRUE(std::equal(engine.ids().begin(), engine.ids().end(), cached_ids.begin()));
    const auto known = static_cast<int64_t>(engine.ids().size());
    EXPECT_EQ(answer(), expected) << at;
    EXPECT_EQ(engine.reused(), std::min<int64_t>(known, 149));
    EXPECT_EQ(engine.ids(), cached_ids);
  }
}

TEST(ChatEngine, AllocatesWhatItSaysAndMoreOnlyForMoreExperts) {
  Cached cached;
  const int64_t before = cached.cpu.device->allocated_bytes();
  const ChatSizes sizes{.most_tokens = 300, .tokens_per_pass = 100};
  ChatEngine engine(cached.loaded, nullptr, *cached.cpu.device, *cached.cpu.backend, sizes);
  const int64_t bytes = ChatEngine::bytes(cached.loaded.config(), DType::f32, sizes, false);
  EXPECT_EQ(cached.cpu.device->allocated_bytes() - before, bytes);
  engine.set_switches({.experts_per_token = 8});
  EXPECT_GT(cached.cpu.device->allocated_bytes() - before, bytes);
  EXPECT_LE(cached.cpu.device->allocated_bytes() - before,
            ChatEngine::bytes(cached.loaded.config(), DType::f32, sizes, false));
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
  cached.after(ids);
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
      cached.engine.set_switches(next);
      switches = next;
    } catch (const Error&) {
      ++refused;  // a mask that leaves too few experts
    }
    const size_t kept = cached.engine.ids().size();
    if (kept > 0 && kept < ids.size()) ++kept_some;
    if (below(3) == 0) ids.resize(ids.size() - static_cast<size_t>(below(10)));
    while (ids.size() < 50) ids.push_back(static_cast<int32_t>(below(59)));
    ASSERT_EQ(cached.after(ids), fresh(ids, switches, GetParam())) << "step " << step;
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
