// FIELD 1b: a router that sees the future. A token is changed; what the model says before it must not change by a bit.

#include <algorithm>

#include "tests/support/running.h"

namespace moe {
namespace {

constexpr size_t kTokens = 30;

/// The first token whose logits change when token `changed` does; kTokens: none.
size_t first_difference(Running& run, size_t changed) {
  std::vector<int32_t> ids;
  const Random random(4, 0);
  for (size_t t = 0; t < kTokens; ++t) {
    ids.push_back(static_cast<int32_t>(random.below(t, static_cast<uint64_t>(run.test.config.vocab_size))));
  }
  const std::vector<float> before = run.logits(ids);
  ids[changed] = (ids[changed] + 1) % static_cast<int32_t>(run.test.config.vocab_size);
  const std::vector<float> after = run.logits(ids);
  const auto place = std::mismatch(before.begin(), before.end(), after.begin()).first - before.begin();
  return static_cast<size_t>(place) / static_cast<size_t>(run.test.config.vocab_size);
}

/// True when some change is seen before its place.
bool sees_the_future(const MethodCase& test) {
  Running run(test, packed_batch({{static_cast<int>(kTokens)}}, kTokens, test.config.vocab_size, 9));
  spread_zero_parameters(run.under.run, *run.device);
  bool seen = false;
  for (const size_t changed : {size_t{1}, size_t{9}, size_t{17}, kTokens - 2, kTokens - 1}) {
    const size_t first = first_difference(run, changed);
    EXPECT_LE(first, changed) << "a token's own logits depend on it";
    seen |= first < changed;
  }
  return seen;
}

class Causality : public testing::TestWithParam<MethodCase> {};

// Where a capacity limits second choices, see below; generation has none.
TEST_P(Causality, LogitsBeforeAChangedTokenStayForEveryMethodButExpertChoice) {
  MethodCase test = GetParam();
  if (test.config.num_experts_per_tok > 1) test.config.eval_capacity_factor = 0;
  EXPECT_EQ(sees_the_future(test), test.config.routing == RoutingMethod::expert_choice);
}

INSTANTIATE_TEST_SUITE_P(All, Causality, testing::ValuesIn(method_cases()),
                         [](const auto& test) { return test.param.name; });

// First choices queue in token order, so a capacity on them alone never looks ahead, however tight.
TEST(CapacityCausality, FirstChoicesDependOnEarlierTokensAlone) {
  for (const double factor : {0.25, 0.5, 1.0, 1.25}) {
    MethodCase test = method_case("switch_original");
    test.config.eval_capacity_factor = factor;
    EXPECT_FALSE(sees_the_future(test)) << factor;
  }
}

// Second choices queue behind all first ones of the row, later tokens' too: GShard's and ST-MoE's rule, which makes
// their evaluation with a capacity see the future (docs/routing.md).
TEST(CapacityCausality, SecondChoicesMayLoseTheirRoomToLaterTokens) {
  for (const char* method : {"gshard_original", "st_moe"}) {
    MethodCase test = method_case(method);
    test.config.eval_capacity_factor = 1;
    EXPECT_TRUE(sees_the_future(test)) << method;
    test.config.eval_capacity_factor = 6;  // room for all
    EXPECT_FALSE(sees_the_future(test)) << method;
  }
}

}  // namespace
}  // namespace moe
