// Two ways of computing one step must agree: microbatches, packing, padding, recompute, threads, evaluation in between.

#include <cmath>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "ops/transfer.h"
#include "tests/support/methods.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

struct StepResult {
  StepReport report;
  std::vector<std::vector<float>> gradients;
};

// One step of the tiny model, with its own pool and memory.
StepResult one_step(const ModelConfig& config, StepConfig step, const Batch& batch, int threads = 2) {
  ThreadPool pool(threads);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  StepUnderTest under(config, step, *device, *backend);
  under.accumulate(batch, step.microbatches);
  StepResult result;
  for (const View& view : under.run.gradients()) {
    result.gradients.emplace_back(view.as<float>(), view.as<float>() + view.elements());
  }
  result.report = under.run.update(1, 1e-3);
  return result;
}

void expect_close(const StepResult& a, const StepResult& b, double tolerance) {
  EXPECT_NEAR(a.report.loss, b.report.loss, tolerance * std::fabs(a.report.loss));
  for (const RouterLoss loss : {RouterLoss::expert, RouterLoss::device}) {
    const double value = a.report.router_loss(loss);
    EXPECT_NEAR(value, b.report.router_loss(loss), tolerance * value);
  }
  EXPECT_EQ(a.report.counts, b.report.counts);
  for (size_t p = 0; p < a.gradients.size(); ++p) {
    double largest = 0;
    double difference = 0;
    for (size_t i = 0; i < a.gradients[p].size(); ++i) {
      largest = std::max(largest, std::fabs(static_cast<double>(a.gradients[p][i])));
      difference = std::max(difference, std::fabs(static_cast<double>(a.gradients[p][i] - b.gradients[p][i])));
    }
    EXPECT_LE(difference, tolerance * largest) << "parameter " << p;
  }
}

void expect_same_bits(const StepResult& a, const StepResult& b) {
  EXPECT_EQ(a.report.loss, b.report.loss);
  EXPECT_EQ(a.report.losses, b.report.losses);
  EXPECT_EQ(a.report.gradient_norm, b.report.gradient_norm);
  EXPECT_EQ(a.report.counts, b.report.counts);
  EXPECT_EQ(a.gradients, b.gradients);
}

const std::vector<std::vector<int>> kEightRows = {{7, 4}, {11}, {3, 1, 5}, {9}, {12}, {2, 2, 2}, {6, 6}, {10, 1}};

StepConfig balanced(const Batch& batch, int64_t microbatches, BalanceScope scope) {
  StepConfig step = step_config_for(batch, microbatches);
  step.balance = {.alpha_expert = 0.05f, .alpha_device = 0.02f, .devices = 3, .scope = scope};
  return step;
}

class Scopes : public testing::TestWithParam<BalanceScope> {};

// FIELD 1a: mean of means, strength of the balance loss by microbatch.
TEST_P(Scopes, OneTimesEightEqualsTwoTimesFourAndEightTimesOne) {
  const ModelConfig config = tiny_config();
  const Batch batch = packed_batch(kEightRows, 12, config.vocab_size, 9);
  const StepResult whole = one_step(config, balanced(batch, 1, GetParam()), batch);
  for (const int64_t microbatches : {2, 8}) {
    SCOPED_TRACE(microbatches);
    expect_close(whole, one_step(config, balanced(batch, microbatches, GetParam()), batch), 2e-5);
  }
}

// FIELD 1a: padding counted; packed documents taken for one sequence.
TEST_P(Scopes, PackingAndPaddingChangeNothing) {
  const ModelConfig config = tiny_config();
  const Batch packed = packed_batch({{7, 4}, {3, 5, 2}}, 12, config.vocab_size, 9);
  const Batch apart = packed_batch({{7}, {4}, {3}, {5}, {2}}, 19, config.vocab_size, 9);
  ASSERT_EQ(packed.num_tokens, apart.num_tokens);
  expect_close(one_step(config, balanced(packed, 1, GetParam()), packed),
               one_step(config, balanced(apart, 1, GetParam()), apart), 2e-5);
}

TEST_P(Scopes, RebuildingGivesTheSameBits) {
  for (const int64_t dense : {0, 1}) {
    ModelConfig config = tiny_config();
    config.first_k_dense_replace = dense;
    const Batch batch = packed_batch(kEightRows, 12, config.vocab_size, 9);
    StepConfig step = balanced(batch, 2, GetParam());
    const StepResult kept = one_step(config, step, batch);
    for (const Rebuild rebuild : {Rebuild::norms, Rebuild::all}) {
      step.rebuild = rebuild;
      expect_same_bits(kept, one_step(config, step, batch));
    }
    step.recompute = true;  // which rebuilds it all
    expect_same_bits(kept, one_step(config, step, batch));
  }
}

TEST_P(Scopes, RecomputeGivesTheSameBits) {
  const ModelConfig config = tiny_config();
  const Batch batch = packed_batch(kEightRows, 12, config.vocab_size, 9);
  StepConfig step = balanced(batch, 2, GetParam());
  const StepResult kept = one_step(config, step, batch);
  step.recompute = true;
  const StepResult recomputed = one_step(config, step, batch);
  expect_same_bits(kept, recomputed);
  int64_t choices = 0;
  for (const int32_t count : recomputed.report.counts) choices += count;
  EXPECT_EQ(choices, batch.num_tokens * config.num_experts_per_tok * config.moe_layers());
}

INSTANTIATE_TEST_SUITE_P(All, Scopes, testing::Values(BalanceScope::sequence, BalanceScope::step),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(TwoWays, ThreadsGiveTheSameBits) {
  const ModelConfig config = tiny_config();
  const Batch batch = packed_batch(kEightRows, 12, config.vocab_size, 9);
  const StepConfig step = balanced(batch, 2, BalanceScope::sequence);
  const StepResult one = one_step(config, step, batch, 1);
  expect_same_bits(one, one_step(config, step, batch, 2));
  expect_same_bits(one, one_step(config, step, batch, 3));
}

/// ||a - b|| / ||b||.
double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

// From the same weights at each step, numbers of bf16 already, so that activations alone are rounded: about fifteen
// roundings of 2^-9 in a row, forward and backward, in each of three layers. Independent ones add up to sqrt(90) 2^-9 =
// 1.9 %.
TEST(TwoWays, Bf16StaysCloseToF32) {
  const ModelConfig config = tiny_config();
  const Batch batch = clear_choices_batch(config.vocab_size);
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  StepConfig step = balanced(batch, 2, BalanceScope::sequence);
  StepUnderTest single(config, step, *device, *backend);
  step.dtype = DType::bf16;
  StepUnderTest half(config, step, *device, *backend);
  constexpr double kRate = 1e-3;
  for (int64_t k = 1; k <= 2; ++k) {
    for (size_t p = 0; p < half.run.table().size(); ++p) {  // the same weights for both
      std::vector<float> rounded = download_floats(*device, half.run.masters()[p]);
      for (float& value : rounded) value = to_float(to_bf16(value));
      upload_vector(*device, half.run.masters()[p], rounded);
      upload_vector(*device, single.run.parameters()[p], rounded);
    }
    half.run.parameters_from_masters();
    const auto rows = [&](int64_t index) { return batch_rows(batch, 4 * index, 4); };
    single.run.accumulate(rows, k);
    half.run.accumulate(rows, k);
    for (size_t p = 0; p < half.run.table().size(); ++p) {
      EXPECT_LT(relative_distance(download_floats(*device, half.run.gradients()[p]),
                                  download_floats(*device, single.run.gradients()[p])),
                0.04)
          << half.run.table()[p].name << " at step " << k;
    }
    const StepReport expected = single.run.update(k, kRate), found = half.run.update(k, kRate);
    EXPECT_NEAR(found.loss, expected.loss, 0.004 * expected.loss);
    EXPECT_NEAR(found.gradient_norm, expected.gradient_norm, 0.02 * expected.gradient_norm);
    int64_t choices = 0, other = 0;
    for (size_t i = 0; i < expected.counts.size(); ++i) {
      choices += expected.counts[i];
      other += std::abs(found.counts[i] - expected.counts[i]);
    }
    EXPECT_LE(other, choices / 50) << "choices between scores nearer than their rounding";
    for (size_t p = 0; p < half.run.table().size(); ++p) {
      const std::vector<float> masters = download_floats(*device, half.run.masters()[p]);
      const std::vector<float> weights = download_floats(*device, single.run.parameters()[p]);
      std::vector<bf16> stored(masters.size());
      device->download(stored.data(), half.run.parameters()[p].data, stored.size() * sizeof(bf16));
      double difference = 0;
      for (size_t i = 0; i < masters.size(); ++i) {
        ASSERT_EQ(stored[i].bits, to_bf16(masters[i]).bits) << "the weights are their masters, rounded";
        difference += std::fabs(static_cast<double>(masters[i]) - static_cast<double>(weights[i]));
      }
      // AdamW moves each weight by about the rate, whichever way its gradient points: few gradients are so small that
      // rounding turns them round.
      EXPECT_LT(difference / static_cast<double>(masters.size()), 0.1 * kRate)
          << half.run.table()[p].name << " after step " << k;
    }
  }
}

// FIELD 1a: the balance loss's gradient never attached.
TEST(TwoWays, RouterGradientChangesWithTheCoefficientAlone) {
  const ModelConfig config = tiny_config();
  const Batch batch = packed_batch(kEightRows, 12, config.vocab_size, 9);
  StepConfig step = balanced(batch, 1, BalanceScope::sequence);
  const StepResult weak = one_step(config, step, batch);
  step.balance.alpha_expert = 0.5f;
  const StepResult strong = one_step(config, step, batch);
  EXPECT_EQ(weak.report.loss, strong.report.loss);
  EXPECT_NEAR(strong.report.router_loss(RouterLoss::expert), 10 * weak.report.router_loss(RouterLoss::expert), 1e-5);
  const auto table = parameter_table(config);
  for (size_t p = 0; p < table.size(); ++p) {
    if (table[p].kind == ParameterKind::router) {
      EXPECT_NE(weak.gradients[p], strong.gradients[p]);
    }
  }
}

// With m = 1, no shared experts and K = 2 the layer is GShard's in the paper's form: experts of the standard width and
// nothing else. Splitting an expert into halves of half the width, both active, is the same function.
TEST(TwoWays, TwoHalvesOfEveryExpertEqualTheWhole) {
  ModelConfig whole = tiny_config();
  whole.n_shared_experts = 0;
  whole.num_experts_per_tok = whole.n_routed_experts;  // all active, so that both models choose alike
  whole.moe_intermediate_size = 6;
  ModelConfig halves = whole;
  halves.n_routed_experts *= 2;
  halves.num_experts_per_tok *= 2;
  halves.moe_intermediate_size /= 2;
  const Batch batch = packed_batch({{7, 4}, {11}}, 12, whole.vocab_size, 9);
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  StepUnderTest a(whole, step_config_for(batch, 1), *device, *backend);
  StepUnderTest b(halves, step_config_for(batch, 1), *device, *backend);
  const int64_t hidden = whole.hidden_size;
  const int64_t width = halves.moe_intermediate_size;
  const auto copy = [](const float* from, float* to, int64_t count) { std::copy(from, from + count, to); };
  for (size_t p = 0; p < a.run.table().size(); ++p) {
    const float* from = a.run.parameters()[p].as<float>();
    float* to = b.run.parameters()[p].as<float>();
    const std::string& name = a.run.table()[p].name;
    for (int64_t e = 0; e < whole.n_routed_experts; ++e) {
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t target = 2 * e + half;
        if (name.ends_with("router")) {
          copy(from + e * hidden, to + target * hidden, hidden);  // both halves score alike ...
        } else if (name.ends_with("experts.gate_up")) {
          for (int64_t part = 0; part < 2; ++part) {
            copy(from + (e * 4 + part * 2 + half) * width * hidden, to + (target * 2 + part) * width * hidden,
                 width * hidden);
          }
        } else if (name.ends_with("experts.down")) {
          for (int64_t row = 0; row < hidden; ++row) {
            for (int64_t f = 0; f < width; ++f) {
              // ... at half the whole's score each, which twice the output makes up for.
              to[(target * hidden + row) * width + f] = 2 * from[(e * hidden + row) * 2 * width + half * width + f];
            }
          }
        }
      }
    }
    if (a.run.table()[p].shape == b.run.table()[p].shape) copy(from, to, a.run.table()[p].shape.elements());
  }
  a.accumulate(batch, 1);
  b.accumulate(batch, 1);
  EXPECT_NEAR(a.run.update(1, 0).loss, b.run.update(1, 0).loss, 1e-5);
}

// What each target's loss counts.
class LossWeights : public testing::TestWithParam<DType> {
 protected:
  StepResult result_of(const Batch& batch) const {
    return one_step(config, step_config_for(batch, 4, GetParam()), batch);
  }

  ModelConfig config = tiny_config();
  Batch plain = packed_batch(kEightRows, 12, config.vocab_size, 9);
};

TEST_P(LossWeights, OfOneAndOfTwoEverywhereAreNoWeights) {
  for (const float weight : {1.0f, 2.0f}) {
    Batch weighted = plain;
    weighted.weights.assign(plain.tokens.size(), weight);
    expect_same_bits(result_of(weighted), result_of(plain));
  }
}

TEST_P(LossWeights, AWeightOfZeroIsNoTarget) {
  Batch weighted = plain, fewer = plain;
  weighted.weights.assign(plain.tokens.size(), 1.0f);
  for (size_t t = 0; t < plain.tokens.size(); t += 3) {
    fewer.num_targets -= fewer.targets[t] >= 0 ? 1 : 0;
    fewer.targets[t] = -1;
    weighted.weights[t] = 0;
  }
  expect_same_bits(result_of(weighted), result_of(fewer));
  EXPECT_NE(result_of(weighted).report.loss, result_of(plain).report.loss);
}

TEST_P(LossWeights, ADocumentOfTwiceTheWeightCountsAsTwo) {
  const std::vector<std::vector<int>> once = {{7}, {4}}, twice = {{7}, {4}, {4}};
  Batch weighted = packed_batch(once, 12, config.vocab_size, 9),
        repeated = packed_batch(twice, 12, config.vocab_size, 9);
  weighted.weights.assign(weighted.tokens.size(), 1.0f);
  for (size_t t = 0; t < 12; ++t) {
    weighted.weights[12 + t] = 2;
    for (auto field : {&Batch::tokens, &Batch::targets}) {
      (repeated.*field)[12 + t] = (repeated.*field)[24 + t] = (weighted.*field)[12 + t];
      (repeated.*field)[t] = (weighted.*field)[t];
    }
  }
  const auto one = [&](const Batch& batch) { return one_step(config, step_config_for(batch, 1, GetParam()), batch); };
  const double tolerance = GetParam() == DType::f32 ? 1e-5 : 1e-2;
  const StepResult a = one(weighted), b = one(repeated);
  EXPECT_NEAR(a.report.loss, b.report.loss, tolerance * b.report.loss);
  EXPECT_NEAR(a.report.gradient_norm, b.report.gradient_norm, tolerance * b.report.gradient_norm);
}

INSTANTIATE_TEST_SUITE_P(Types, LossWeights, testing::Values(DType::f32, DType::bf16),
                         [](const auto& type) { return std::string(name(type.param)); });

}  // namespace
}  // namespace moe
