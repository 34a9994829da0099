// What families add to the blocks: norms of q and k, biases, a gated shared expert. The backward passes against
// differences of the forward passes, in double precision, with what is kept and with what is made again.

#include <array>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "nn/attention.h"
#include "nn/moe.h"
#include "tests/gradients/differences.h"

namespace moe::oracle {
namespace {

constexpr int64_t kTokens = 5, kHidden = 6;

/// Runs blocks over the tokens of two documents.
class Bench {
 public:
  Bench(uint64_t seed, Rebuild rebuild) : store(seed), rebuild_(rebuild) {
    zeros_ = store.indices({kTokens}, {0, 0, 0, 0, 0});
    positions_ = store.indices({kTokens}, {0, 1, 2, 0, 1});
    start_ = store.indices({kTokens}, {0, 0, 0, 3, 3});
  }

  /// Calls run(pass) with empty arenas whose earlier content is poison.
  void in_pass(const std::function<void(Pass&)>& run) {
    const View memory = store_.poison(DType::f64, {1 << 14}), more = store_.poison(DType::f64, {1 << 14});
    Arena saved("saved", memory.data, memory.bytes()), scratch("scratch", more.data, more.bytes());
    Pass pass{.backend = *oracle_, .saved = saved, .scratch = scratch, .dtype = DType::f64, .rebuild = rebuild_};
    run(pass);
  }

  TokenViews tokens(int64_t head_dim) {
    const View rope = store_.poison(DType::f64, {kTokens, head_dim});
    oracle_->run(RopeTable{.positions = positions_, .theta = 100, .table = rope});
    return {.ids = zeros_,
            .positions = positions_,
            .rope = rope,
            .segment_start = start_,
            .valid = zeros_,
            .max_segment = 3};
  }

  Store store;

 private:
  Rebuild rebuild_;
  std::unique_ptr<Backend> oracle_ = make_oracle();
  Store store_{99};  ///< of memory whose values do not matter
  View zeros_, positions_, start_;
};

class AttentionOfFamilies : public testing::TestWithParam<std::tuple<QkNorm, bool, Rebuild>> {};

TEST_P(AttentionOfFamilies, BackwardGivesTheGradientsOfAllThatForwardReads) {
  const auto [norm, biased, rebuild] = GetParam();
  const AttentionConfig config{
      .hidden = kHidden, .heads = 4, .kv_heads = 2, .head_dim = 2, .norm = norm, .norm_eps = 0.1f};
  Bench bench(7, rebuild);
  Store& s = bench.store;
  const auto weights_of = [&](const std::function<View(Shape)>& make) {
    AttentionWeights weights;
    weights.qkv.weight = make({config.qkv_width(), kHidden});
    if (biased) weights.qkv.bias = make({config.qkv_width()});
    weights.output.weight = make({kHidden, config.q_width()});
    const bool each = norm == QkNorm::each_head;
    if (norm != QkNorm::none) {
      weights.q_norm = make({each ? config.head_dim : config.q_width()});
      weights.k_norm = make({each ? config.head_dim : config.kv_width()});
    }
    return weights;
  };
  const AttentionWeights weights = weights_of([&](Shape shape) { return s.normal(DType::f64, shape); });
  const AttentionWeights gradients = weights_of([&](Shape shape) { return s.constant(DType::f64, shape, 0); });
  const View x = s.normal(DType::f64, {kTokens, kHidden}), dy = s.normal(DType::f64, {kTokens, kHidden});
  const View y = s.poison(DType::f64, {kTokens, kHidden}), dx = s.poison(DType::f64, {kTokens, kHidden});
  const TokenViews tokens = bench.tokens(config.head_dim);
  const auto loss = [&] {
    bench.in_pass([&](Pass& pass) { attention_forward(pass, config, weights, tokens, nullptr, x, y); });
    return dot(y, dy);
  };
  bench.in_pass([&](Pass& pass) {
    const AttentionSaved saved = attention_forward(pass, config, weights, tokens, nullptr, x, y);
    attention_backward(pass, config, weights, gradients, tokens, saved, x, dy, dx);
  });
  expect_gradient("dx", read(dx), x, loss);
  expect_gradient("qkv", read(gradients.qkv.weight), weights.qkv.weight, loss);
  expect_gradient("output", read(gradients.output.weight), weights.output.weight, loss);
  if (biased) expect_gradient("bias", read(gradients.qkv.bias), weights.qkv.bias, loss);
  if (norm == QkNorm::none) return;
  expect_gradient("q_norm", read(gradients.q_norm), weights.q_norm, loss);
  expect_gradient("k_norm", read(gradients.k_norm), weights.k_norm, loss);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionOfFamilies,
                         testing::Combine(testing::Values(QkNorm::none, QkNorm::each_head, QkNorm::all_heads),
                                          testing::Bool(), testing::Values(Rebuild::nothing, Rebuild::all)));

class MoeOfFamilies : public testing::TestWithParam<Rebuild> {};

TEST_P(MoeOfFamilies, BackwardGivesTheGradientsOfAGatedSharedExpert) {
  constexpr int64_t kExperts = 3, kWidth = 4, kShared = 5;
  const MoeConfig config{.hidden = kHidden,
                         .width = kWidth,
                         .router = {.experts = kExperts, .top_k = kExperts},  // every choice is stable
                         .balance = {}};
  Bench bench(8, GetParam());
  Store& s = bench.store;
  const auto weights_of = [&](const std::function<View(Shape)>& make) {
    MoeWeights weights;
    weights.router.project.weight = make({kExperts, kHidden});
    weights.gate_up.weight = make({kExperts, 2 * kWidth, kHidden});
    weights.down.weight = make({kExperts, kHidden, kWidth});
    weights.shared.gate_up.weight = make({2 * kShared, kHidden});
    weights.shared.down.weight = make({kHidden, kShared});
    weights.shared_gate.weight = make({1, kHidden});
    return weights;
  };
  const MoeWeights weights = weights_of([&](Shape shape) { return s.normal(DType::f64, shape, 0.5); });
  const MoeWeights gradients = weights_of([&](Shape shape) { return s.constant(DType::f64, shape, 0); });
  const Shape shape{kTokens, kHidden};
  const View x = s.normal(DType::f64, shape), dy = s.normal(DType::f64, shape), residual = s.normal(DType::f64, shape);
  const View y = s.poison(DType::f64, shape), dx = s.poison(DType::f64, shape);
  const TokenViews tokens = bench.tokens(2);
  const LayerContext context{.tokens = tokens,
                             .choice = {.ids = s.constant(DType::i32, {kTokens, kExperts}, 0),
                                        .gates = s.poison(DType::f64, {kTokens, kExperts})}};
  const auto loss = [&] {
    bench.in_pass([&](Pass& pass) { moe_forward(pass, config, weights, context, x, residual, y); });
    return dot(y, dy);
  };
  bench.in_pass([&](Pass& pass) {
    const MoeSaved saved = moe_forward(pass, config, weights, context, x, residual, y);
    moe_backward(pass, config, weights, gradients, context, saved, x, dy, dx);
  });
  expect_gradient("dx", read(dx), x, loss);
  expect_gradient("gate", read(gradients.shared_gate.weight), weights.shared_gate.weight, loss);
  expect_gradient("shared gate_up", read(gradients.shared.gate_up.weight), weights.shared.gate_up.weight, loss);
  expect_gradient("shared down", read(gradients.shared.down.weight), weights.shared.down.weight, loss);
  expect_gradient("router", read(gradients.router.project.weight), weights.router.project.weight, loss);
  expect_gradient("experts", read(gradients.gate_up.weight), weights.gate_up.weight, loss);
}

INSTANTIATE_TEST_SUITE_P(All, MoeOfFamilies, testing::Values(Rebuild::nothing, Rebuild::all));

}  // namespace
}  // namespace moe::oracle
