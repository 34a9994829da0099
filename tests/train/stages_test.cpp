// A step of the stages of a pipeline is the step of one rank, but for the order of sums.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/not_finite_place.h"
#include "infer/scorer.h"
#include "tests/support/rank_steps.h"
#include "train/owners.h"

namespace moe {
namespace {

using test::Difference;
using test::difference;
using test::RankResult;
using test::steps_on_ranks;

constexpr int64_t kSteps = 10, kMicrobatches = 8;
/// As in ranks_test.cpp.
constexpr double kBound = 1e-12;

struct Layout {
  int ranks, experts, stages;
};

StepConfig exact_step(const MethodCase& test) {
  return test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, DType::f64);
}

std::vector<RankResult> steps_of(const Layout& layout, const ModelConfig& config, StepConfig step, int64_t steps,
                                 int64_t microbatches = kMicrobatches, const test::Wrap& wrap = {}) {
  step.expert_ranks = layout.experts;
  step.stages = layout.stages;
  return steps_on_ranks(layout.ranks, config, step, clear_choices_batch(config.vocab_size), microbatches, steps, wrap);
}

void expect_same(const RankResult& one, const RankResult& several) {
  const Difference most = difference(one, several);
  EXPECT_LT(most.loss, kBound);
  EXPECT_LT(most.router_losses, kBound);
  EXPECT_LT(most.norm, kBound);
  EXPECT_LT(most.weights, kBound);
  EXPECT_EQ(most.counts, 0);
  EXPECT_EQ(most.dropped, 0);
}

/// `layouts` have as many ranks in each stage, that compute as many microbatches.
void expect_stages_do_not_matter(const ModelConfig& config, const StepConfig& step, const std::vector<Layout>& layouts,
                                 int64_t steps, int64_t microbatches = kMicrobatches) {
  const RankResult one = steps_of({1, 1, 1}, config, step, steps, microbatches)[0];
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(
        fmt::format("{} ranks, experts divided among {}, {} stages", layout.ranks, layout.experts, layout.stages));
    const std::vector<RankResult> results = steps_of(layout, config, step, steps, microbatches);
    const size_t of_stage = results.size() / static_cast<size_t>(layout.stages);
    for (size_t rank = 0; rank < results.size(); ++rank) {
      expect_same(one, results[rank]);
      EXPECT_EQ(results[rank].hashes, results[rank / of_stage * of_stage].hashes);
      EXPECT_EQ(results[rank].reports.back().gradient_norm, results[0].reports.back().gradient_norm);
    }
  }
}

class StagesByMethod : public testing::TestWithParam<std::tuple<MethodCase, BalanceScope>> {};

TEST_P(StagesByMethod, AreOneRank) {
  const auto& [test, scope] = GetParam();
  StepConfig step = exact_step(test);
  step.balance.scope = scope;
  expect_stages_do_not_matter(test.config, step, {{2, 1, 2}, {4, 2, 2}}, 4);
}

INSTANTIATE_TEST_SUITE_P(All, StagesByMethod,
                         testing::Combine(testing::ValuesIn(method_cases()),
                                          testing::Values(BalanceScope::sequence, BalanceScope::step)),
                         [](const auto& test) {
                           return std::get<0>(test.param).name + "_" + name(std::get<1>(test.param));
                         });

TEST(Stages, AreOneRankInTenSteps) {
  const MethodCase test = method_case("deepseekmoe");
  expect_stages_do_not_matter(test.config, exact_step(test),
                              {{2, 1, 2}, {4, 1, 2}, {3, 1, 3}, {6, 1, 3}, {4, 2, 2}, {8, 2, 2}}, kSteps);
}

/// Fewer microbatches than stages, and as many.
TEST(Stages, AreOneRankWithFewMicrobatches) {
  const MethodCase test = method_case("deepseekmoe");
  for (const int64_t microbatches : {1, 2, 4}) {
    SCOPED_TRACE(microbatches);
    StepConfig step = exact_step(test);
    expect_stages_do_not_matter(test.config, step, {{2, 1, 2}, {3, 1, 3}}, 3, microbatches);
  }
}

TEST(Stages, AreOneRankWithEverySetting) {
  const MethodCase test = method_case("deepseekmoe");
  const auto with = [&](const char* what, const std::function<void(ModelConfig&, StepConfig&)>& change) {
    SCOPED_TRACE(what);
    ModelConfig config = test.config;
    StepConfig step = exact_step(test);
    change(config, step);
    expect_stages_do_not_matter(config, step, {{3, 1, 3}, {4, 2, 2}}, 3);
  };
  with("recompute", [](ModelConfig&, StepConfig& one) { one.recompute = true; });
  with("norms", [](ModelConfig&, StepConfig& one) { one.rebuild = Rebuild::norms; });
  with("rebuild", [](ModelConfig&, StepConfig& one) { one.rebuild = Rebuild::all; });
  with("clipping", [](ModelConfig&, StepConfig& one) { one.optimizer.clip = 0.1; });
  with("no clipping", [](ModelConfig&, StepConfig& one) { one.optimizer.clip = 0; });
  with("muon", [](ModelConfig&, StepConfig& one) { one.optimizer.kind = "muon"; });
  with("microbatch scope", [](ModelConfig&, StepConfig& one) { one.balance.scope = BalanceScope::microbatch; });
  with("no shared experts", [](ModelConfig& config, StepConfig&) { config.n_shared_experts = 0; });
  with("device balance loss", [](ModelConfig&, StepConfig& one) {
    one.balance.alpha_device = 0.2f;
    one.balance.devices = 2;
  });
}

/// What is frozen may be a whole stage, at either end or between two that train.
TEST(Stages, MayBeFrozen) {
  const MethodCase test = method_case("deepseekmoe");
  for (const std::vector<std::string>& freeze : {std::vector<std::string>{"embedding"},
                                                 {"embedding", "layers.0"},
                                                 {"layers.1"},
                                                 {"layers.2", "norm", "head"},
                                                 {"embedding", "layers.0", "layers.1"},
                                                 {"embedding", "layers.0.attention"}}) {
    SCOPED_TRACE(testing::PrintToString(freeze));
    StepConfig step = exact_step(test);
    step.freeze = freeze;
    expect_stages_do_not_matter(test.config, step, {{2, 1, 2}, {3, 1, 3}}, 3);
  }
}

TEST(Stages, BalanceByTheBiasesOfAllTokens) {
  const MethodCase test = method_case("loss_free");
  StepConfig step = exact_step(test);
  step.balance.bias_rate = 0.01f;
  expect_stages_do_not_matter(test.config, step, {{2, 1, 2}, {3, 1, 3}, {4, 2, 2}}, kSteps);
}

TEST(Stages, ADenseModelIsTheSame) {
  const MethodCase test = method_case("dense");
  expect_stages_do_not_matter(test.config, exact_step(test), {{2, 1, 2}, {3, 1, 3}, {4, 1, 2}}, 4);
}

/// The first and the last stage have the matrix, and both give it gradients.
TEST(Stages, MayShareTheEmbeddingAsTheirHead) {
  for (const char* const method : {"deepseekmoe", "dense"}) {
    MethodCase test = method_case(method);
    test.config.tie_word_embeddings = true;
    const bool experts = test.config.n_routed_experts > 0;
    const auto with = [&](const char* what, const std::function<void(StepConfig&)>& change, int64_t steps = 3) {
      SCOPED_TRACE(fmt::format("{} {}", method, what));
      StepConfig step = exact_step(test);
      change(step);
      expect_stages_do_not_matter(test.config, step, {{2, 1, 2}, {3, 1, 3}, {4, 1, 2}, {6, 1, 3}}, steps);
      if (experts) expect_stages_do_not_matter(test.config, step, {{4, 2, 2}}, steps);
    };
    with(
        "plain", [](StepConfig&) {}, kSteps);
    with("recompute", [](StepConfig& one) { one.recompute = true; });
    with("clipping", [](StepConfig& one) { one.optimizer.clip = 0.1; });
    with("muon", [](StepConfig& one) { one.optimizer.kind = "muon"; });
    with("frozen", [](StepConfig& one) { one.freeze = {"embedding"}; });
    with("microbatch scope", [](StepConfig& one) { one.balance.scope = BalanceScope::microbatch; });
  }
}

TEST(Stages, RepeatTheBitsOfASharedEmbedding) {
  MethodCase test = method_case("deepseekmoe");
  test.config.tie_word_embeddings = true;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const StepConfig step = test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, dtype);
    const test::Wrap late = [&](Communicator& inner) { return std::make_unique<test::Late>(inner, 1); };
    const std::vector<RankResult> first = steps_of({6, 1, 3}, test.config, step, kSteps);
    const std::vector<RankResult> again = steps_of({6, 1, 3}, test.config, step, kSteps, kMicrobatches, late);
    for (size_t rank = 0; rank < first.size(); ++rank) EXPECT_EQ(first[rank].parameters, again[rank].parameters);
  }
}

/// Without clipping nothing depends on the order in which squares are added, and all other sums have the order of the
/// same ranks in one stage.
TEST(Stages, GiveTheBitsOfOneStage) {
  const MethodCase test = method_case("deepseekmoe");
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    for (const bool recompute : {false, true}) {
      StepConfig step = test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, dtype);
      step.optimizer.clip = 0;
      step.recompute = recompute;
      for (const int of_stage : {1, 2}) {
        const RankResult one = steps_of({of_stage, 1, 1}, test.config, step, kSteps)[0];
        for (const int stages : {2, 3}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", name(dtype), recompute, of_stage, stages));
          for (const RankResult& result : steps_of({of_stage * stages, 1, stages}, test.config, step, kSteps)) {
            EXPECT_EQ(result.parameters, one.parameters);
            for (size_t i = 0; i < one.reports.size(); ++i) {
              EXPECT_EQ(result.reports[i].loss, one.reports[i].loss);
              EXPECT_EQ(result.reports[i].losses, one.reports[i].losses);
            }
          }
        }
      }
    }
  }
}

/// With clipping the norm has another order of squares. The bits are those of the same layout, every time.
TEST(Stages, RepeatTheirBits) {
  const MethodCase test = method_case("deepseekmoe");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const StepConfig step = test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, dtype);
    const std::vector<RankResult> first = steps_of({4, 2, 2}, test.config, step, kSteps);
    const std::vector<RankResult> again = steps_of({4, 2, 2}, test.config, step, kSteps);
    for (size_t rank = 0; rank < first.size(); ++rank) {
      EXPECT_EQ(first[rank].parameters, again[rank].parameters);
      EXPECT_EQ(first[rank].reports.back().gradient_norm, again[rank].reports.back().gradient_norm);
    }
  }
}

/// Sums and weights that are aside begin as late as they may, beside what the stages exchange.
TEST(Stages, ComputeBesideTheirSums) {
  const MethodCase test = method_case("deepseekmoe");
  for (const bool recompute : {false, true}) {
    StepConfig step = test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, DType::bf16);
    step.recompute = recompute;
    const auto parameters = [&](int awaits) {
      const test::Wrap late = [&](Communicator& inner) { return std::make_unique<test::Late>(inner, awaits); };
      return steps_of({4, 1, 2}, test.config, step, 3, kMicrobatches, awaits > 0 ? late : test::Wrap{})[0].parameters;
    };
    const auto expected = parameters(0);
    EXPECT_EQ(parameters(1), expected);
    EXPECT_NE(parameters(2), expected) << "nothing waits for what is aside";
  }
}

TEST(Stages, HoldTheirLayersAloneAndTheStateOnce) {
  const MethodCase test = method_case("deepseekmoe");
  StepConfig step = exact_step(test);
  step.ranks = 8, step.expert_ranks = 2, step.stages = 2;
  std::map<std::string, int64_t> held, owned;  // elements, by parameter
  for (step.rank = 0; step.rank < step.ranks; ++step.rank) {
    const std::vector<Parameter> table = held_table(test.config, step);
    const std::vector<int> owners = owners_of(table, step.layout());
    for (size_t i = 0; i < table.size(); ++i) {
      EXPECT_EQ(table[i].place(3) < 2, step.rank < 4) << table[i].name;
      EXPECT_TRUE(step.layout().holders(table[i]).has(owners[i])) << table[i].name;
      held[table[i].name] += table[i].shape.elements();
      if (owners[i] == step.rank) owned[table[i].name] += table[i].shape.elements();
    }
  }
  for (const Parameter& parameter : training_table(test.config, {})) {
    const bool experts = parameter.kind == ParameterKind::routed_experts;
    EXPECT_EQ(held[parameter.name], parameter.shape.elements() * (experts ? 2 : 4)) << parameter.name;
    EXPECT_EQ(owned[parameter.name], parameter.shape.elements()) << parameter.name;
  }
}

/// What is planned is what a stage has: the arenas would refuse more. Later stages keep fewer microbatches.
TEST(Stages, KeepTheMicrobatchesThatWait) {
  ModelConfig config = tiny_config();
  config.num_hidden_layers = 8;
  config.first_k_dense_replace = 0;
  StepConfig step = exact_step(method_case("deepseekmoe"));
  step.ranks = step.stages = 4;
  step.microbatches = kMicrobatches;
  std::vector<MemoryPlan> plans;
  for (step.rank = 0; step.rank < step.ranks; ++step.rank) plans.push_back(plan_training(config, step));
  for (int64_t stage = 0; stage < 4; ++stage) {
    EXPECT_EQ(plans[static_cast<size_t>(stage)].waiting, 4 - stage);
  }
  EXPECT_EQ(plans[0].saved_each(), plans[1].saved_each());
  EXPECT_EQ(plans[0].saved, 4 * plans[0].saved_each());  // nothing is made again
  // Recompute needs the memory of one layer, however many microbatches wait.
  step.rank = 0;
  step.recompute = true;
  const MemoryPlan recomputed = plan_training(config, step);
  EXPECT_LT(recomputed.saved_each(), plans[0].saved_each() / 2);
  EXPECT_GT(recomputed.saved, 4 * recomputed.saved_each());
  EXPECT_LT(recomputed.saved, 4 * recomputed.saved_each() + plans[0].saved_each());
}

/// All ranks have the logits of the whole model, and if they are not finite, each finds the same place.
TEST(Stages, ScoreTogether) {
  const ModelConfig config = tiny_config();
  StepConfig step = step_config_for(clear_choices_batch(config.vocab_size), kMicrobatches);
  const std::vector<int32_t> ids{7, 4, 11, 3, 1};
  std::vector<float> expected;  // of one rank
  for (const auto& [ranks, experts, stages] : {std::tuple{1, 1, 1}, {3, 1, 3}, {4, 2, 2}}) {
    SCOPED_TRACE(fmt::format("{} ranks, experts divided among {}, {} stages", ranks, experts, stages));
    StepConfig of_layout = step;
    of_layout.ranks = ranks, of_layout.expert_ranks = experts, of_layout.stages = stages;
    test::on_ranks(ranks, [&, of_layout](Communicator& communicator) {
      StepConfig own = of_layout;
      own.rank = communicator.rank();
      const test::RankMachine machine(DType::f32);
      TrainingStep run(config, own, plan_training(config, own), *machine.device, *machine.backend, communicator);
      run.initialize(1, 0.3);
      const ModelOnDevice runtime{run.model(), DType::f32, *machine.device, *machine.backend};
      Scorer scorer(runtime, static_cast<int64_t>(ids.size()));
      std::vector<float> found;
      scorer.logits(single_document(ids), [&](int64_t, int64_t rows, const float* values) {
        found.insert(found.end(), values, values + rows * config.vocab_size);
      });
      if (own.ranks == 1) expected = found;
      if (own.expert_ranks == 1) {
        EXPECT_EQ(found, expected);
      } else {
        ASSERT_EQ(found.size(), expected.size());
        for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5);
      }
      for (size_t i = 0; i < run.table().size(); ++i) {
        if (run.table()[i].name != "layers.1.attention.output") continue;
        const float not_a_number = NAN;
        machine.device->upload(run.parameters()[i].as<float>(), &not_a_number, sizeof(not_a_number));
      }
      EXPECT_EQ(not_finite_place(runtime, ids), "; the first are the outputs of layer 1 (of 3 from 0)");
    });
  }
}

/// A communicator that exchanges wrongly on one rank.
class FaultyExchange final : public test::ForwardingCommunicator {
 public:
  enum class Fault { late, gradient_missing, hidden_of_another };

  FaultyExchange(Communicator& inner, Fault fault) : ForwardingCommunicator(inner), fault_(fault) {}
  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override {
    std::vector<char> kept;
    if (rank() == 0 && fault_ == Fault::late && !received.empty()) kept = bytes_of(received[0].x);
    inner_.exchange(sent, received);
    if (rank() == 0 && !received.empty()) {
      const View& x = received[0].x;
      if (fault_ == Fault::late) std::copy(kept.begin(), kept.end(), static_cast<char*>(x.data));
      if (fault_ == Fault::gradient_missing && x.elements() > 0) std::fill_n(x.as<double>(), x.elements(), 0.0);
    }
    if (rank() == 1 && fault_ == Fault::hidden_of_another && !received.empty()) {
      const View& x = received[0].x;
      std::vector<char> now = bytes_of(x);
      if (!before_.empty()) std::copy(before_.begin(), before_.end(), static_cast<char*>(x.data));
      before_ = now;
    }
  }

 private:
  static std::vector<char> bytes_of(const View& x) {
    return {static_cast<const char*>(x.data), static_cast<const char*>(x.end())};
  }
  Fault fault_;
  std::vector<char> before_;
};

TEST(Stages, AFaultOfAnExchangeIsSeen) {
  const MethodCase test = method_case("deepseekmoe");
  const StepConfig step = exact_step(test);
  const RankResult one = steps_of({1, 1, 1}, test.config, step, 2)[0];
  for (const auto fault : {FaultyExchange::Fault::late, FaultyExchange::Fault::gradient_missing,
                           FaultyExchange::Fault::hidden_of_another}) {
    const Difference most =
        difference(one, steps_of({2, 1, 2}, test.config, step, 2, kMicrobatches, [&](Communicator& communicator) {
                     return std::make_unique<FaultyExchange>(communicator, fault);
                   })[0]);
    EXPECT_GT(most.norm, 100 * kBound);
    EXPECT_GT(most.weights, 100 * kBound);
  }
}

}  // namespace
}  // namespace moe
