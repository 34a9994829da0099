// A whole tiny model on the oracle in double precision: every parameter's gradient against central differences.

#include <cmath>
#include <numeric>
#include <ostream>

#include <gtest/gtest.h>

#include "tests/oracle/oracle.h"
#include "tests/support/host_device.h"
#include "tests/support/tiny_model.h"

namespace moe {
namespace {

struct Case {
  const char* name;
  ModelConfig config;
  BalanceConfig balance;
  bool recompute = false;
  int64_t microbatches = 2;
};

void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

double total_loss(const StepReport& report) {
  double total = report.loss;
  for (const double loss : report.losses) total += loss;
  return total;
}

class ModelGradient : public testing::TestWithParam<Case> {};

// The loss with the counts f held fixed is what the balance losses differentiate (f carries no gradient); a small step
// changes no choice of experts, so the losses computed anew have the same f.
TEST_P(ModelGradient, EqualsCentralDifferences) {
  const Case& test = GetParam();
  const Batch batch = packed_batch({{7, 4}, {11}, {3, 1, 5}, {9}}, 12, test.config.vocab_size, 5);
  StepConfig step = step_config_for(batch, test.microbatches, DType::f64);
  step.balance = test.balance;
  step.recompute = test.recompute;
  HostDevice device;
  const auto oracle = make_oracle();
  StepUnderTest under(test.config, step, device, *oracle);
  const auto loss_and_gradients = [&] {
    under.accumulate(batch, test.microbatches);
    return total_loss(under.run.update(1, 0.0));  // learning rate 0: the weights stay
  };
  loss_and_gradients();
  std::vector<std::vector<double>> gradients;
  for (const View& view : under.run.gradients()) {
    gradients.emplace_back(view.as<double>(), view.as<double>() + view.elements());
  }
  const Random random(3, 3);
  const double delta = 1e-5;
  uint64_t draw = 0;
  for (size_t p = 0; p < gradients.size(); ++p) {
    const auto elements = static_cast<uint64_t>(gradients[p].size());
    for (int probe = 0; probe < 3; ++probe) {
      const uint64_t i = random.below(draw++, elements);
      double& weight = under.run.parameters()[p].as<double>()[i];
      const double original = weight;
      weight = original + delta;
      const double above = loss_and_gradients();
      weight = original - delta;
      const double below = loss_and_gradients();
      weight = original;
      const double numeric = (above - below) / (2 * delta);
      EXPECT_NEAR(gradients[p][i], numeric, 1e-8 + 1e-6 * std::fabs(numeric))
          << under.run.table()[p].name << " element " << i;
    }
  }
}

std::vector<Case> cases() {
  const ModelConfig base = tiny_config();
  ModelConfig normalised = base;
  normalised.norm_topk_prob = true;
  normalised.n_shared_experts = 0;
  normalised.tie_word_embeddings = true;
  ModelConfig dense = base;
  dense.n_routed_experts = 0;
  ModelConfig sparse_layers = base;
  sparse_layers.moe_layer_freq = 2;
  sparse_layers.first_k_dense_replace = 0;
  sparse_layers.num_experts_per_tok = 1;
  const BalanceConfig sequence{.alpha_expert = 0.3f, .alpha_device = 0.2f, .devices = 3};
  BalanceConfig microbatch = sequence;
  microbatch.scope = BalanceScope::microbatch;
  BalanceConfig whole_step = sequence;
  whole_step.scope = BalanceScope::step;
  return {{"plain", base, {}},
          {"sequence_balance", base, sequence},
          {"sequence_balance_recompute", base, sequence, true},
          {"microbatch_balance", base, microbatch},
          {"step_balance", base, whole_step},
          {"normalised_unshared_tied", normalised, sequence},
          {"dense", dense, {}},
          {"every_second_layer_top1", sparse_layers, whole_step, true}};
}

INSTANTIATE_TEST_SUITE_P(TinyModels, ModelGradient, testing::ValuesIn(cases()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace moe
