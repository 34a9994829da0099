// A step of ranks that divide the routed experts is the step of one rank, but for the order of sums.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/rank_steps.h"
#include "train/owners.h"

namespace moe {
namespace {

using test::Difference;
using test::difference;
using test::RankResult;
using test::steps_on_ranks;

constexpr int64_t kSteps = 10, kMicrobatches = 4;
/// As in ranks_test.cpp. A token's experts are added in the order of the ranks that have them.
constexpr double kBound = 1e-12;

struct Layout {
  int ranks, experts;
};

void expect_same(const RankResult& one, const RankResult& several) {
  const Difference most = difference(one, several);
  EXPECT_LT(most.loss, kBound);
  EXPECT_LT(most.router_losses, kBound);
  EXPECT_LT(most.norm, kBound);
  EXPECT_LT(most.weights, kBound);
  EXPECT_EQ(most.counts, 0);
  EXPECT_EQ(most.dropped, 0);
}

std::vector<RankResult> steps_of(const Layout& layout, const ModelConfig& config, StepConfig step, const Batch& batch,
                                 int64_t steps, const test::Wrap& wrap = {}) {
  step.expert_ranks = layout.experts;
  return steps_on_ranks(layout.ranks, config, step, batch, kMicrobatches, steps, wrap);
}

void expect_layouts_do_not_matter(const ModelConfig& config, const StepConfig& step, const Batch& batch,
                                  const std::vector<Layout>& layouts, int64_t steps) {
  const RankResult one = steps_of({1, 1}, config, step, batch, steps)[0];
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(fmt::format("{} ranks, experts divided among {}", layout.ranks, layout.experts));
    const std::vector<RankResult> results = steps_of(layout, config, step, batch, steps);
    for (size_t rank = 0; rank < results.size(); ++rank) {
      expect_same(one, results[rank]);
      EXPECT_EQ(results[rank].hashes, results[0].hashes);
      // The ranks that have the same experts.
      EXPECT_EQ(results[rank].expert_hashes, results[rank % static_cast<size_t>(layout.experts)].expert_hashes);
    }
  }
}

StepConfig exact_step(const MethodCase& test) {
  return test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, DType::f64);
}

/// The method's test with eight experts, which four ranks can divide.
MethodCase with_eight_experts(MethodCase test) {
  test.config.n_routed_experts = 8;
  return test;
}

class ExpertRanksByMethod : public testing::TestWithParam<std::tuple<MethodCase, BalanceScope>> {};

TEST_P(ExpertRanksByMethod, AreOneRank) {
  const auto& [test, scope] = GetParam();
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  StepConfig step = exact_step(test);
  step.balance.scope = scope;
  expect_layouts_do_not_matter(test.config, step, batch, {{2, 2}, {4, 2}}, 4);
  if (test.config.n_group == 1) {
    expect_layouts_do_not_matter(with_eight_experts(test).config, step, batch, {{4, 4}}, 4);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExpertRanksByMethod,
                         testing::Combine(testing::ValuesIn(method_cases()),
                                          testing::Values(BalanceScope::sequence, BalanceScope::step)),
                         [](const auto& test) {
                           return std::get<0>(test.param).name + "_" + name(std::get<1>(test.param));
                         });

TEST(ExpertRanks, AreOneRankInTenSteps) {
  const MethodCase test = with_eight_experts(method_case("deepseekmoe"));
  expect_layouts_do_not_matter(test.config, exact_step(test), clear_choices_batch(test.config.vocab_size),
                               {{2, 2}, {4, 2}, {4, 4}}, kSteps);
}

TEST(ExpertRanks, AreOneRankWithEverySetting) {
  const MethodCase test = with_eight_experts(method_case("deepseekmoe"));
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  const StepConfig step = exact_step(test);
  const auto with = [&](const char* what, const std::function<void(ModelConfig&, StepConfig&)>& change) {
    SCOPED_TRACE(what);
    ModelConfig config = test.config;
    StepConfig changed = step;
    change(config, changed);
    expect_layouts_do_not_matter(config, changed, batch, {{4, 2}, {4, 4}}, 3);
  };
  with("recompute", [](ModelConfig&, StepConfig& one) { one.recompute = true; });
  with("norms", [](ModelConfig&, StepConfig& one) { one.rebuild = Rebuild::norms; });
  with("rebuild", [](ModelConfig&, StepConfig& one) { one.rebuild = Rebuild::all; });
  with("clipping", [](ModelConfig&, StepConfig& one) { one.optimizer.clip = 0.1; });
  with("no clipping", [](ModelConfig&, StepConfig& one) { one.optimizer.clip = 0; });
  with("muon", [](ModelConfig&, StepConfig& one) { one.optimizer.kind = "muon"; });
  with("frozen experts", [](ModelConfig&, StepConfig& one) { one.freeze = {"layers.1.experts", "embedding"}; });
  with("microbatch scope", [](ModelConfig&, StepConfig& one) { one.balance.scope = BalanceScope::microbatch; });
  with("no shared experts", [](ModelConfig& config, StepConfig&) { config.n_shared_experts = 0; });
  with("gated shared experts", [](ModelConfig& config, StepConfig&) { config.gated_shared_expert = true; });
  with("device balance loss", [](ModelConfig&, StepConfig& one) {
    one.balance.alpha_device = 0.2f;
    one.balance.devices = 4;
  });
}

TEST(ExpertRanks, BalanceByTheBiasesOfAllTokens) {
  const MethodCase test = method_case("loss_free");
  StepConfig step = exact_step(test);
  step.balance.bias_rate = 0.01f;
  expect_layouts_do_not_matter(test.config, step, clear_choices_batch(test.config.vocab_size), {{2, 2}, {4, 2}},
                               kSteps);
}

/// All tokens are the same, so most experts have none.
TEST(ExpertRanks, ARankMayHaveNoRows) {
  const MethodCase test = with_eight_experts(method_case("deepseekmoe"));
  Batch batch = clear_choices_batch(test.config.vocab_size);
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = 3;
    batch.positions[i] = 0;  // so that attention sees equal keys
    if (batch.targets[i] >= 0) batch.targets[i] = 3;
  }
  StepConfig step = exact_step(test);
  // What attention gives does not depend on which of equal tokens it reads. Gradients of queries and keys are rounding,
  // which AdamW makes large.
  step.freeze = {"layers.*.attention.qkv"};
  const RankResult one = steps_of({1, 1}, test.config, step, batch, 1)[0];
  bool found = false;
  for (size_t first = 0; first < one.reports[0].counts.size(); first += 2) {
    found = found || (one.reports[0].counts[first] == 0 && one.reports[0].counts[first + 1] == 0);
  }
  ASSERT_TRUE(found) << "every rank has rows";
  expect_layouts_do_not_matter(test.config, step, batch, {{4, 4}}, 2);
}

/// f32 and bf16: the first step, and equal bits in two runs.
TEST(ExpertRanks, OnTheCpuAgreeToRoundingAndRepeatTheirBits) {
  const MethodCase test = method_case("deepseekmoe");
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(name(dtype));
    const StepConfig step = test.step(batch, kMicrobatches, dtype);
    const RankResult one = steps_of({1, 1}, test.config, step, batch, 1)[0];
    const std::vector<RankResult> first = steps_of({2, 2}, test.config, step, batch, 1);
    const Difference most = difference(one, first[0]);
    const bool rounded = dtype == DType::bf16;  // sums of experts' outputs, also of gradients
    EXPECT_LT(most.loss, rounded ? 1e-3 : 1e-6);
    EXPECT_LT(most.router_losses, rounded ? 5e-3 : 2e-6);
    EXPECT_LT(most.norm, rounded ? 1e-2 : 5e-6);
    const std::vector<RankResult> again = steps_of({4, 2}, test.config, step, batch, kSteps);
    const std::vector<RankResult> repeated = steps_of({4, 2}, test.config, step, batch, kSteps);
    for (size_t rank = 0; rank < 4; ++rank) {
      EXPECT_EQ(again[rank].hashes, repeated[0].hashes);
      EXPECT_EQ(again[rank].expert_hashes, repeated[rank % 2].expert_hashes);
      EXPECT_EQ(again[rank].reports.back().loss, repeated[0].reports.back().loss);
    }
  }
}

TEST(ExpertRanks, HoldTheirOwnExpertsAlone) {
  const MethodCase test = with_eight_experts(method_case("deepseekmoe"));
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(name(dtype));
    const StepConfig step = test.step(batch, kMicrobatches, dtype);
    const RankResult one = steps_of({1, 1}, test.config, step, batch, 1)[0];
    const std::vector<RankResult> results = steps_of({4, 4}, test.config, step, batch, 1);
    int64_t expert_bytes = 0, expert_elements = 0;
    for (size_t i = 0; i < one.parameters.size(); ++i) {
      if (!results[0].divided[i]) continue;
      const auto bytes = static_cast<int64_t>(one.parameters[i].size());
      expert_bytes += bytes;
      expert_elements += bytes / static_cast<int64_t>(size_of(dtype));
      for (const RankResult& rank : results) EXPECT_EQ(rank.parameters[i].size() * 4, one.parameters[i].size());
    }
    ASSERT_GT(expert_elements, 0);
    constexpr double kAlignment = 64.0 * 40;
    for (const RankResult& rank : results) {
      EXPECT_NEAR(static_cast<double>(one.plan.parameters - rank.plan.parameters),
                  static_cast<double>(expert_bytes) * 3 / 4, kAlignment);
      EXPECT_NEAR(static_cast<double>(one.plan.gradients - rank.plan.gradients),
                  static_cast<double>(expert_elements) * 4 * 3 / 4, kAlignment);
      EXPECT_EQ(rank.plan.microbatch_flops, one.plan.microbatch_flops);
    }
  }
}

TEST(ExpertRanks, EachExpertHasOneOwner) {
  const MethodCase test = with_eight_experts(method_case("deepseekmoe"));
  for (const Layout& layout : {Layout{4, 2}, Layout{4, 4}, Layout{8, 2}}) {
    SCOPED_TRACE(fmt::format("{} {}", layout.ranks, layout.experts));
    std::map<std::pair<size_t, int64_t>, int> owners;  // of a parameter's experts from a number on
    for (int rank = 0; rank < layout.ranks; ++rank) {
      StepConfig step;
      step.rank = rank;
      step.ranks = layout.ranks;
      step.expert_ranks = layout.experts;
      const std::vector<Parameter> table = held_table(test.config, step);
      const std::vector<bool> owned = owned_by(owners_of(table, step.layout()), table, step.layout());
      for (size_t i = 0; i < table.size(); ++i) owners[{i, table[i].first_expert}] += owned[i] ? 1 : 0;
    }
    for (const auto& [part, count] : owners) EXPECT_EQ(count, 1) << part.first << " " << part.second;
  }
}

/// As Ranks.ComputeBesideTheirSums.
TEST(ExpertRanks, ComputeBesideTheirSums) {
  const MethodCase test = with_eight_experts(method_case("deepseekmoe"));
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  for (const Layout& layout : {Layout{4, 2}, Layout{4, 4}}) {
    SCOPED_TRACE(layout.experts);
    const StepConfig step = test.step(batch, kMicrobatches, DType::bf16);
    const auto of = [&](const test::Wrap& wrap) { return steps_of(layout, test.config, step, batch, 3, wrap); };
    const std::vector<RankResult> expected = of({});
    const std::vector<RankResult> found =
        of([](Communicator& inner) { return std::make_unique<test::Late>(inner, 1); });
    for (size_t rank = 0; rank < expected.size(); ++rank) {
      EXPECT_EQ(found[rank].hashes, expected[rank].hashes);
      EXPECT_EQ(found[rank].expert_hashes, expected[rank].expert_hashes);
    }
  }
}

/// A communicator with a fault in what one rank of a group gives or gets.
class FaultyGroup final : public test::ForwardingCommunicator {
 public:
  enum class Fault { squares_missing, tokens_missing, sum_missing, sum_doubled, gradient_missing, experts_kept };

  FaultyGroup(Communicator& inner, Fault fault) : ForwardingCommunicator(inner), fault_(fault) {}
  void all_reduce(const View& x, const RankGroup& group) override {
    if (has(Fault::squares_missing) && x.dtype == DType::f64 && x.elements() == 1) scale(x, 0);
    inner_.all_reduce(x, group);
  }
  void reduce(const View& x, int root, const RankGroup& group) override {
    if (has(Fault::gradient_missing) && group.step > 1) scale(x, 0);
    inner_.reduce(x, root, group);
  }
  void broadcast(const View& x, int root, const RankGroup& group) override {
    const std::vector<char> own(static_cast<const char*>(x.data), static_cast<const char*>(x.end()));
    inner_.broadcast(x, root, group);
    if (has(Fault::experts_kept) && group.step > 1) std::copy(own.begin(), own.end(), static_cast<char*>(x.data));
  }
  void all_gather(const View& x, const View& y, const RankGroup& group) override {
    inner_.all_gather(x, y, group);
    if (has(Fault::tokens_missing) && x.dtype == DType::f64) scale(y.rows(0, y.size(0) / group.count), 0);
  }
  void reduce_scatter(const View& x, const View& y, const RankGroup& group) override {
    if (has(Fault::sum_missing)) scale(x, 0);
    if (has(Fault::sum_doubled)) scale(x, 2);
    inner_.reduce_scatter(x, y, group);
  }

 private:
  bool has(Fault fault) const { return fault_ == fault && rank() == 1; }
  static void scale(const View& x, double factor) {
    for (int64_t i = 0; i < x.elements(); ++i) x.as<double>()[i] *= factor;
  }

  Fault fault_;
};

TEST(ExpertRanks, AFaultOfOneRankIsSeen) {
  const MethodCase test = method_case("deepseekmoe");
  StepConfig step = exact_step(test);
  step.optimizer.clip = 0.1;
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  const RankResult one = steps_of({1, 1}, test.config, step, batch, 2)[0];
  const auto with = [&](FaultyGroup::Fault fault) {
    return steps_of({4, 2}, test.config, step, batch, 2,
                    [&](Communicator& communicator) { return std::make_unique<FaultyGroup>(communicator, fault); });
  };
  using Fault = FaultyGroup::Fault;
  for (const Fault fault : {Fault::squares_missing, Fault::tokens_missing, Fault::sum_missing, Fault::sum_doubled,
                            Fault::gradient_missing}) {
    SCOPED_TRACE(static_cast<int>(fault));
    const Difference most = difference(one, with(fault)[0]);
    EXPECT_GT(most.norm, 100 * kBound);
    EXPECT_GT(most.weights, 100 * kBound);
  }
  const std::vector<RankResult> kept = with(Fault::experts_kept);
  EXPECT_NE(kept[1].expert_hashes, kept[3].expert_hashes);
  EXPECT_GT(std::max(difference(one, kept[0]).weights, difference(one, kept[2]).weights), 100 * kBound);
}

}  // namespace
}  // namespace moe
