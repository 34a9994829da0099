// Every routing method in a whole training step: gradients, two ways of computing the same, what each promises.

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "eval/routing_counts.h"
#include "nn/routers/hash_table.h"
#include "ops/record.h"
#include "tests/oracle/oracle.h"
#include "tests/support/host_device.h"
#include "tests/support/memory_use.h"
#include "tests/support/running.h"

namespace moe {
namespace {

class EveryMethod : public testing::TestWithParam<MethodCase> {};

// Counts f and choices carry no gradient; a small step changes neither, so losses computed anew have the same.
TEST_P(EveryMethod, GradientsEqualCentralDifferences) {
  const MethodCase& test = GetParam();
  const Batch batch = packed_batch({{7, 4}, {11}, {3, 1, 5}, {9}}, 12, test.config.vocab_size, 5);
  HostDevice device;
  const auto oracle = make_oracle();
  StepUnderTest under(test.config, test.step(batch, 2, DType::f64), device, *oracle);
  spread_zero_parameters(under.run, device);
  const auto loss = [&] {
    under.accumulate(batch, 2);
    return total_loss(under.run.update(1, 0.0));
  };
  loss();
  std::vector<std::vector<double>> gradients;
  for (const View& view : under.run.gradients()) {
    gradients.emplace_back(view.as<double>(), view.as<double>() + (view ? view.elements() : 0));
  }
  const Random random(3, 3);
  uint64_t draw = 0;
  for (size_t p = 0; p < gradients.size(); ++p) {
    const Parameter& parameter = under.run.table()[p];
    if (!parameter.trained()) continue;
    const bool router = parameter.kind == ParameterKind::router || parameter.kind == ParameterKind::light_router;
    for (int probe = 0; probe < (router ? 6 : 1); ++probe) {
      const uint64_t i = random.below(draw++, gradients[p].size());
      double& weight = under.run.parameters()[p].as<double>()[i];
      const double original = weight, delta = 1e-5;
      weight = original + delta;
      const double above = loss();
      weight = original - delta;
      const double below = loss();
      weight = original;
      const double numeric = (above - below) / (2 * delta);
      EXPECT_NEAR(gradients[p][i], numeric, 2e-8 + 2e-6 * std::fabs(numeric)) << parameter.name << " element " << i;
    }
  }
}

TEST_P(EveryMethod, RouterHasAGradient) {
  const MethodCase& test = GetParam();
  const Batch batch = packed_batch(kEightRows, 12, test.config.vocab_size, 9);
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  MethodCase without_losses = test;
  without_losses.balance = {};
  StepUnderTest under(test.config, without_losses.step(batch, 1), *device, *backend);
  spread_zero_parameters(under.run, *device);
  under.accumulate(batch, 1);
  int routers = 0;
  for (size_t p = 0; p < under.run.table().size(); ++p) {
    if (under.run.table()[p].kind != ParameterKind::router) continue;
    ++routers;
    double largest = 0;
    for (const float value : download_floats(*device, under.run.gradients()[p])) {
      largest = std::max(largest, std::fabs(static_cast<double>(value)));
    }
    EXPECT_GT(largest, 1e-6) << under.run.table()[p].name << ", by its gates alone";
  }
  // A table of tokens is not learned: there is nothing that could have a gradient. Noise has a matrix of its own.
  const int64_t in_a_layer =
      test.config.routing == RoutingMethod::hash ? 0 : (test.config.routing == RoutingMethod::noisy_topk ? 2 : 1);
  EXPECT_EQ(routers, in_a_layer * test.config.moe_layers());
}

TEST_P(EveryMethod, MicrobatchesChangeNothing) {
  for (const BalanceScope scope : {BalanceScope::sequence, BalanceScope::step}) {
    SCOPED_TRACE(name(scope));
    MethodCase test = GetParam();
    test.balance.scope = scope;
    const Batch batch = packed_batch(kEightRows, 12, test.config.vocab_size, 9);
    const StepResult whole = one_step(test, batch, 1);
    for (const int64_t microbatches : {2, 8}) {
      SCOPED_TRACE(microbatches);
      const StepResult parts = one_step(test, batch, microbatches);
      EXPECT_NEAR(parts.report.loss, whole.report.loss, 2e-5);
      EXPECT_EQ(parts.report.counts, whole.report.counts);
      EXPECT_EQ(parts.report.dropped, whole.report.dropped);
      for (size_t i = 0; i < whole.report.losses.size(); ++i) {
        EXPECT_NEAR(parts.report.losses[i], whole.report.losses[i], 2e-5 * (1e-3 + whole.report.losses[i]));
      }
      for (size_t p = 0; p < whole.gradients.size(); ++p) {
        double largest = 0, difference = 0;
        for (size_t i = 0; i < whole.gradients[p].size(); ++i) {
          const auto value = static_cast<double>(whole.gradients[p][i]);
          largest = std::max(largest, std::fabs(value));
          difference = std::max(difference, std::fabs(value - static_cast<double>(parts.gradients[p][i])));
        }
        EXPECT_LE(difference, 3e-5 * largest) << "parameter " << p;
      }
    }
  }
}

TEST_P(EveryMethod, RecomputeAndThreadsGiveTheSameBits) {
  const MethodCase& test = GetParam();
  const Batch batch = packed_batch(kEightRows, 12, test.config.vocab_size, 9);
  const StepResult kept = one_step(test, batch, 2);
  expect_same_bits(kept, one_step(test, batch, 2, true));
  expect_same_bits(kept, one_step(test, batch, 2, false, 1));
  expect_same_bits(kept, one_step(test, batch, 2, true, 3));
}

TEST_P(EveryMethod, PlannedMemoryIsWhatStepsNeed) {
  const MethodCase& test = GetParam();
  const Batch batch = packed_batch(kEightRows, 12, test.config.vocab_size, 9);
  ThreadPool pool(1);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const StepConfig wanted = test.step(batch, 2, dtype);
    StepUnderTest under(test.config, wanted, *device, *backend);
    for (int64_t step = 1; step <= 3; ++step) {  // an arena that is too small fails
      const int64_t rows = batch.rows / 2;
      under.run.accumulate([&](int64_t index) { return batch_rows(batch, index * rows, rows); }, step);
      EXPECT_TRUE(std::isfinite(under.run.update(step, 1e-3).loss));
    }
    expect_tight_plan(test.config, wanted, 12, *device, *backend);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryMethod, testing::ValuesIn(method_cases()),
                         [](const auto& test) { return test.param.name; });

TEST(Methods, DeepSeekMoEOfWholeExpertsIsGShardBitForBit) {
  MethodCase ours = method_case("deepseekmoe"), gshard = method_case("gshard");
  ours.config.n_shared_experts = gshard.config.n_shared_experts = 0;
  ours.config.num_experts_per_tok = 2;
  const Batch batch = packed_batch(kEightRows, 12, ours.config.vocab_size, 9);
  expect_same_bits(one_step(ours, batch, 2), one_step(gshard, batch, 2));
}

TEST(Methods, AHashedTokenLandsOnItsExpert) {
  const MethodCase test = method_case("hash");
  const Batch batch = packed_batch(kEightRows, 12, test.config.vocab_size, 9);
  const StepReport report = one_step(test, batch, 2).report;
  for (int64_t moe_index = 0; moe_index < 2; ++moe_index) {
    const auto table = random_hash_table(test.config.vocab_size, 6, 1, moe_index + 1);
    std::vector<int32_t> expected(6, 0);
    for (size_t t = 0; t < batch.tokens.size(); ++t) {
      if (batch.segment_id[t] >= 0) ++expected[static_cast<size_t>(table[static_cast<size_t>(batch.tokens[t])])];
    }
    const auto begin = report.counts.begin() + moe_index * 6;
    EXPECT_EQ(std::vector<int32_t>(begin, begin + 6), expected);
  }
}

TEST(Methods, ABalancedTableSharesOutTheText) {
  const std::vector<int64_t> counts = {5, 0, 9, 5, 1, 0, 4};
  // Falling counts: ids 2 (9), 0 (5), 3 (5), 6 (4), 4 (1), 1, 5; to experts 0, 1, 2, 1 (5 of text each), 2, 2, 2.
  EXPECT_EQ(balanced_hash_table(counts, 3), (std::vector<int32_t>{1, 2, 0, 2, 2, 2, 1}));
}

TEST(Methods, CapacityDropsWhatExpertsHaveNoRoomFor) {
  MethodCase test = method_case("switch_original");
  const Batch batch = packed_batch({{12}}, 12, test.config.vocab_size, 9);
  const StepReport report = one_step(test, batch, 1).report;
  const int64_t capacity = expert_capacity(12, 6, kMillion);
  EXPECT_EQ(capacity, 2);
  int64_t all = 0;
  for (size_t layer = 0; layer < 2; ++layer) {
    int64_t beyond = 0, chosen = 0;
    for (size_t e = 0; e < 6; ++e) {
      chosen += report.counts[layer * 6 + e];
      beyond += std::max<int64_t>(0, report.counts[layer * 6 + e] - capacity);
    }
    EXPECT_EQ(chosen, 12) << "choices are counted before any is dropped";
    EXPECT_EQ(report.dropped[layer], beyond);
    all += beyond;
  }
  EXPECT_GT(all, 0);
}

TEST(Methods, BiasesDriveTheLoadTogether) {
  for (const char* method : {"loss_free", "loss_free_softmax"}) {
    MethodCase test = method_case(method);
    test.balance = {};
    test.balance.bias_rate = 0.02f;
    test.config.initializer_range = 1;
    Running run(test, packed_batch(kEightRows, 12, test.config.vocab_size, 9));
    const auto worst = [&](const StepReport& report) {
      double result = 0;
      for (size_t layer = 0; layer < 2; ++layer) {
        result = std::max(result, load_statistics(std::span(report.counts).subspan(layer * 6, 6)).max_over_mean);
      }
      return result;
    };
    const double before = worst(run.step(1, 0.0));
    double after = 0;
    for (int64_t step = 2; step <= 150; ++step) after = worst(run.step(step, 0.0));
    EXPECT_GT(before, 1.5) << method;
    EXPECT_LT(after, 1 + 0.5 * (before - 1)) << method;
  }
}

TEST(Methods, StableMoEFreezesItsLightRouterAndFollowsIt) {
  MethodCase test = method_case("stable_moe");
  test.second_stage = 3;
  Running run(test, packed_batch(kEightRows, 12, test.config.vocab_size, 9));
  const auto centroids = [&] { return run.parameter("layers.1.router.light_centroids"); };
  const std::vector<float> first = centroids();
  const double distillation = run.step(1, 1e-2).router_loss(RouterLoss::distillation);
  EXPECT_GT(distillation, 0);
  EXPECT_NE(centroids(), first);
  run.step(2, 1e-2);
  const std::vector<float> learned = centroids(), embedding = run.parameter("layers.1.router.light_embedding");
  const std::vector<float> gates = run.parameter("layers.1.router");
  const StepReport second = run.step(3, 1e-2);
  EXPECT_EQ(centroids(), learned);
  EXPECT_EQ(run.parameter("layers.1.router.light_embedding"), embedding);
  EXPECT_NE(run.parameter("layers.1.router"), gates) << "the gates' weights go on learning";
  EXPECT_EQ(second.router_loss(RouterLoss::distillation), 0);
  EXPECT_EQ(second.router_loss(RouterLoss::stable_balance), 0);
  std::vector<int32_t> expected(6, 0);  // of layer 1, by the light router's largest product
  for (size_t t = 0; t < run.batch.tokens.size(); ++t) {
    if (run.batch.segment_id[t] < 0) continue;
    std::vector<double> logits(6, 0.0);
    for (size_t e = 0; e < 6; ++e) {
      for (size_t i = 0; i < static_cast<size_t>(kLightWidth); ++i) {
        const auto row = static_cast<size_t>(run.batch.tokens[t]) * kLightWidth;
        logits[e] += static_cast<double>(embedding[row + i]) * static_cast<double>(learned[e * kLightWidth + i]);
      }
    }
    ++expected[static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin())];
  }
  EXPECT_EQ(std::vector<int32_t>(second.counts.begin(), second.counts.begin() + 6), expected);
}

TEST(Methods, StableMoECountsFirstInItsFirstStageAlone) {
  const MethodCase test = method_case("stable_moe", BalanceScope::step);
  const Batch batch = packed_batch(kEightRows, 12, test.config.vocab_size, 9);
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  RecordingBackend recorder(*backend, *device);
  StepUnderTest under(test.config, test.step(batch, 1), *device, recorder);
  const auto attentions = [&](int64_t step) {
    const int64_t before = recorder.records().at("attention").calls;
    under.run.accumulate([&](int64_t) { return batch; }, step);
    return recorder.records().at("attention").calls - before;
  };
  under.run.accumulate([&](int64_t) { return batch; }, 1);
  EXPECT_EQ(attentions(1), 2 * test.config.num_hidden_layers);
  EXPECT_EQ(attentions(2), test.config.num_hidden_layers);
}

}  // namespace
}  // namespace moe
