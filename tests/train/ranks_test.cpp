// A step that several ranks share is the step of one rank, but for the order of sums.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/rank_steps.h"

namespace moe {
namespace {

using test::Difference;
using test::difference;
using test::RankResult;
using test::steps_on_ranks;

constexpr int64_t kSteps = 10, kMicrobatches = 4;

/// In f64 another order of a sum changes the last bits of 53. Here results of ranks differed by at most 2.2e-14, in
/// norms, whose squares are then summed in another order too. A mistake of one rank changes far more
/// (AFaultOfOneRankIsSeen).
constexpr double kBound = 1e-12;

void expect_same(const RankResult& one, const RankResult& several) {
  const Difference most = difference(one, several);
  EXPECT_LT(most.loss, kBound);
  EXPECT_LT(most.router_losses, kBound);
  EXPECT_LT(most.norm, kBound);
  EXPECT_LT(most.weights, kBound);
  EXPECT_EQ(most.counts, 0);
  EXPECT_EQ(most.dropped, 0);
}

void expect_ranks_do_not_matter(const ModelConfig& config, const StepConfig& step, int64_t steps = kSteps) {
  const Batch batch = clear_choices_batch(config.vocab_size);
  const RankResult one = steps_on_ranks(1, config, step, batch, kMicrobatches, steps)[0];
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    const std::vector<RankResult> results = steps_on_ranks(ranks, config, step, batch, kMicrobatches, steps);
    for (const RankResult& result : results) {
      expect_same(one, result);
      EXPECT_EQ(result.hashes, results[0].hashes);  // the weights of every rank, after each step
    }
  }
}

StepConfig exact_step(const MethodCase& test) {
  return test.step(clear_choices_batch(test.config.vocab_size), kMicrobatches, DType::f64);
}

class RanksByMethod : public testing::TestWithParam<std::tuple<MethodCase, BalanceScope>> {};

TEST_P(RanksByMethod, AreOneRank) {
  const auto& [test, scope] = GetParam();
  StepConfig step = exact_step(test);
  step.balance.scope = scope;
  expect_ranks_do_not_matter(test.config, step, 4);
}

INSTANTIATE_TEST_SUITE_P(All, RanksByMethod,
                         testing::Combine(testing::ValuesIn(method_cases()),
                                          testing::Values(BalanceScope::sequence, BalanceScope::step)),
                         [](const auto& test) {
                           return std::get<0>(test.param).name + "_" + name(std::get<1>(test.param));
                         });

TEST(Ranks, AreOneRankInTenSteps) { expect_ranks_do_not_matter(tiny_config(), exact_step(method_case("deepseekmoe"))); }

TEST(Ranks, AreOneRankWithEverySetting) {
  const MethodCase test = method_case("deepseekmoe");
  StepConfig step = exact_step(test);
  const auto with = [&](const char* what, const std::function<void(StepConfig&)>& change) {
    SCOPED_TRACE(what);
    StepConfig changed = step;
    change(changed);
    expect_ranks_do_not_matter(test.config, changed, 4);
  };
  with("recompute", [](StepConfig& one) { one.recompute = true; });
  with("rebuild", [](StepConfig& one) { one.rebuild = Rebuild::all; });
  with("clipping", [](StepConfig& one) { one.optimizer.clip = 0.1; });
  with("no clipping", [](StepConfig& one) { one.optimizer.clip = 0; });
  with("muon", [](StepConfig& one) { one.optimizer.kind = "muon"; });
  with("freeze", [](StepConfig& one) { one.freeze = {"embedding", "layers.1.router"}; });
  with("microbatch scope", [](StepConfig& one) { one.balance.scope = BalanceScope::microbatch; });
}

TEST(Ranks, BalanceByTheBiasesOfAllTokens) {
  const MethodCase test = method_case("loss_free");
  StepConfig step = exact_step(test);
  step.balance.bias_rate = 0.01f;
  expect_ranks_do_not_matter(test.config, step);
}

TEST(Ranks, ADenseModelIsTheSame) {
  const MethodCase test = method_case("dense");
  expect_ranks_do_not_matter(test.config, exact_step(test), 4);
}

/// f32 and bf16, whose routing may differ where scores almost tie: so the first step, and equal bits in two runs.
TEST(Ranks, OnTheCpuAgreeToRoundingAndRepeatTheirBits) {
  const MethodCase test = method_case("deepseekmoe");
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(name(dtype));
    const StepConfig step = test.step(batch, kMicrobatches, dtype);
    const RankResult one = steps_on_ranks(1, test.config, step, batch, kMicrobatches, 1)[0];
    const std::vector<RankResult> first = steps_on_ranks(2, test.config, step, batch, kMicrobatches, 1);
    const Difference most = difference(one, first[0]);
    // The forward pass of a microbatch has the same bits; sums of f32 gradients are in another order.
    EXPECT_LT(most.loss, 1e-14);
    EXPECT_LT(most.router_losses, 1e-6);
    EXPECT_LT(most.norm, 2e-6);
    EXPECT_EQ(most.counts, 0);
    const std::vector<RankResult> again = steps_on_ranks(2, test.config, step, batch, kMicrobatches, kSteps);
    const std::vector<RankResult> repeated = steps_on_ranks(2, test.config, step, batch, kMicrobatches, kSteps);
    for (const size_t rank : {0, 1}) {
      EXPECT_EQ(again[rank].hashes, repeated[0].hashes);
      EXPECT_EQ(again[rank].reports.back().loss, repeated[0].reports.back().loss);
    }
  }
}

TEST(Ranks, ShareTheStateOfTheOptimiser) {
  const MethodCase test = method_case("deepseekmoe");
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  for (const char* kind : {"adamw", "muon"}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{} {}", kind, name(dtype)));
      StepConfig step = test.step(batch, kMicrobatches, dtype);
      step.optimizer.kind = kind;
      const RankResult one = steps_on_ranks(1, test.config, step, batch, kMicrobatches, 1)[0];
      const std::vector<RankResult> results = steps_on_ranks(4, test.config, step, batch, kMicrobatches, 1);
      int64_t all = 0;
      for (size_t i = 0; i < one.owned.size(); ++i) {
        const auto owners = std::count_if(results.begin(), results.end(),
                                          [&](const RankResult& result) { return static_cast<bool>(result.owned[i]); });
        EXPECT_EQ(owners, 1) << i;
      }
      for (const RankResult& result : results) {
        all += result.plan.optimizer;
        // The largest tensor of this model is a third of all.
        EXPECT_LT(result.plan.optimizer, one.plan.optimizer * 2 / 5);
      }
      EXPECT_NEAR(static_cast<double>(all), static_cast<double>(one.plan.optimizer), 64.0 * 8 * 40);  // alignment
    }
  }
}

/// What is aside may end at any time before the step waits for it. Sums that begin only then are the same bits, also
/// where saved activations share the gradients' memory (one microbatch for each rank).
TEST(Ranks, ComputeBesideTheirSums) {
  const MethodCase test = method_case("deepseekmoe");
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  for (const DType dtype : {DType::f64, DType::bf16}) {
    for (const int ranks : {2, 4}) {
      for (const bool recompute : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name(dtype), ranks, recompute));
        StepConfig step = test.step(batch, kMicrobatches, dtype);
        step.recompute = recompute;
        const auto hashes = [&](int awaits) {
          const test::Wrap late = [&](Communicator& inner) { return std::make_unique<test::Late>(inner, awaits); };
          return steps_on_ranks(ranks, test.config, step, batch, kMicrobatches, 3, awaits > 0 ? late : test::Wrap{})[0]
              .hashes;
        };
        const std::vector<uint64_t> expected = hashes(0);
        EXPECT_EQ(hashes(1), expected);
        EXPECT_NE(hashes(2), expected) << "nothing waits for what is aside";
      }
    }
  }
}

/// Weights may come beside the next step's forward pass, which waits for those of each layer.
TEST(Ranks, ComputeBesideTheirWeights) {
  for (const char* method : {"deepseekmoe", "dense", "hash"}) {
    const MethodCase test = method_case(method);
    const Batch batch = clear_choices_batch(test.config.vocab_size);
    for (const int64_t microbatches : {int64_t{2}, kMicrobatches}) {
      for (const BalanceScope scope : {BalanceScope::sequence, BalanceScope::step}) {
        SCOPED_TRACE(fmt::format("{} {} {}", method, microbatches, name(scope)));
        StepConfig step = test.step(batch, microbatches, DType::bf16);
        step.balance.scope = scope;
        const auto hash = [&](bool late, bool heeds_marks, bool looks) {
          const test::Wrap wrap = [&](Communicator& inner) {
            return std::make_unique<test::Late>(inner, 1, heeds_marks);
          };
          return steps_on_ranks(2, test.config, step, batch, microbatches, 3, late ? wrap : test::Wrap{}, looks)[0]
              .hashes.back();
        };
        const uint64_t expected = hash(false, true, true);
        EXPECT_EQ(hash(false, true, false), expected);
        EXPECT_EQ(hash(true, true, false), expected);
        // A counting pass reads all weights before, so that it waits for everything.
        EXPECT_EQ(hash(true, false, false) == expected, step.balance.counts_first()) << "nothing waits for a mark";
      }
    }
  }
}

/// A communicator with a fault in one rank's part of a step.
class Faulty final : public test::ForwardingCommunicator {
 public:
  enum class Fault {
    gradient_missing,
    gradient_doubled,
    squares_missing,
    counts_missing,
    losses_missing,
    broadcast_missing
  };

  Faulty(Communicator& inner, Fault fault) : ForwardingCommunicator(inner), fault_(fault) {}
  void reduce(const View& x, int root, const RankGroup& group) override {
    if (rank() == 1 && x.elements() > 20 && first_) {
      first_ = false;
      const double factor = fault_ == Fault::gradient_missing ? 0 : fault_ == Fault::gradient_doubled ? 2 : 1;
      for (int64_t i = 0; i < x.elements(); ++i) x.as<double>()[i] *= factor;
    }
    inner_.reduce(x, root, group);
  }
  void all_reduce(const View& x, const RankGroup& group) override {
    if (rank() == 1 && x.dtype == DType::f64 && x.elements() == 1 && fault_ == Fault::squares_missing) {
      *x.as<double>() = 0;
    }
    if (rank() == 1 && x.dtype == DType::i32 && fault_ == Fault::counts_missing) {
      std::fill_n(x.as<int32_t>(), x.elements(), 0);
    }
    inner_.all_reduce(x, group);
  }
  void broadcast(const View& x, int root, const RankGroup& group) override {
    std::vector<char> own(static_cast<const char*>(x.data), static_cast<const char*>(x.end()));
    inner_.broadcast(x, root, group);
    if (rank() == 1 && fault_ == Fault::broadcast_missing)
      std::copy(own.begin(), own.end(), static_cast<char*>(x.data));
  }
  std::vector<std::string> gather(const std::string& bytes) override {
    std::string sent = bytes;
    if (rank() == 1 && fault_ == Fault::losses_missing) sent.assign(sent.size(), '\0');  // 0.0
    return inner_.gather(sent);
  }

 private:
  Fault fault_;
  bool first_ = true;  // one gradient of the run
};

TEST(Ranks, AFaultOfOneRankIsSeen) {
  const MethodCase test = method_case("deepseekmoe");
  const StepConfig step = exact_step(test);
  const Batch batch = clear_choices_batch(test.config.vocab_size);
  const RankResult one = steps_on_ranks(1, test.config, step, batch, kMicrobatches, 2)[0];
  const auto with = [&](Faulty::Fault fault) {
    return steps_on_ranks(2, test.config, step, batch, kMicrobatches, 2,
                          [&](Communicator& communicator) { return std::make_unique<Faulty>(communicator, fault); });
  };
  for (const auto fault : {Faulty::Fault::gradient_missing, Faulty::Fault::gradient_doubled}) {
    const Difference most = difference(one, with(fault)[0]);
    EXPECT_GT(most.norm, 100 * kBound);
    EXPECT_GT(most.weights, 100 * kBound);
  }
  EXPECT_GT(difference(one, with(Faulty::Fault::squares_missing)[0]).norm, 100 * kBound);
  EXPECT_GT(difference(one, with(Faulty::Fault::counts_missing)[0]).counts, 0);
  EXPECT_GT(difference(one, with(Faulty::Fault::losses_missing)[0]).loss, 100 * kBound);
  const std::vector<RankResult> drifted = with(Faulty::Fault::broadcast_missing);
  EXPECT_NE(drifted[0].hashes, drifted[1].hashes);
}

}  // namespace
}  // namespace moe
