/// The backward operations of rows, attention and the two ends against differences of their forward ones.

#include "tests/gradients/differences.h"

namespace moe::oracle {
namespace {

constexpr DType f64 = DType::f64;

TEST(Gradients, RmsNormBackwardGivesTheGradientsOfInputAndGain) {
  const auto oracle = make_oracle();
  Store s(1);
  const View x = s.normal(f64, {3, 5}), gain = s.normal(f64, {5}), weights = s.normal(f64, {3, 5});
  const View y = s.poison(f64, {3, 5}), inv_rms = s.poison(f64, {3});
  const auto loss = [&] {
    oracle->run(RmsNorm{.x = x, .gain = gain, .eps = 0.1f, .y = y, .inv_rms = inv_rms});
    return dot(y, weights);
  };
  loss();
  const View dx = s.constant(f64, {3, 5}, 0), dgain = s.constant(f64, {5}, 0);
  oracle->run(RmsNormBackward{.dy = weights, .x = x, .gain = gain, .inv_rms = inv_rms, .dx = dx, .dgain = dgain});
  expect_gradient("dx", read(dx), x, loss);
  expect_gradient("dgain", read(dgain), gain, loss);
}

TEST(Gradients, RmsNormBackwardAddsToTheResidualStreamsGradient) {
  const auto oracle = make_oracle();
  Store s(2);
  const View x = s.normal(f64, {4, 6}), residual = s.normal(f64, {4, 6}), gain = s.normal(f64, {6});
  const View to_y = s.normal(f64, {4, 6}), to_sum = s.normal(f64, {4, 6});
  const View sum = s.poison(f64, {4, 6}), y = s.poison(f64, {4, 6}), inv_rms = s.poison(f64, {4});
  const auto loss = [&] {
    oracle->run(
        RmsNorm{.x = x, .residual = residual, .sum = sum, .gain = gain, .eps = 1e-6f, .y = y, .inv_rms = inv_rms});
    return dot(y, to_y) + dot(sum, to_sum);
  };
  loss();
  const View dx = s.copy(to_sum), dgain = s.normal(f64, {6}), dgain_before = s.copy(dgain);
  oracle->run(RmsNormBackward{.dy = to_y, .x = sum, .gain = gain, .inv_rms = inv_rms, .dx = dx, .dgain = dgain});
  expect_gradient("dx", read(dx), x, loss);
  expect_gradient("dx", read(dx), residual, loss);
  Reals added = read(dgain);
  for (int64_t d = 0; d < 6; ++d) added(d) -= read(dgain_before)(d);
  expect_gradient("dgain", added, gain, loss);
}

TEST(Gradients, SwiGluBackwardGivesTheGradientsOfGateUpAndScale) {
  const auto oracle = make_oracle();
  Store s(3);
  const View gate_up = s.normal(f64, {4, 6}), scale = s.normal(f64, {5}), weights = s.normal(f64, {4, 3});
  const View index = s.indices({4}, {3, 0, 4, 2}), count = s.indices({1}, {3});
  const View y = s.constant(f64, {4, 3}, 0);
  const auto loss = [&] {
    oracle->run(SwiGlu{.gate_up = gate_up, .scale = scale, .scale_index = index, .row_count = count, .y = y});
    return dot(y, weights);
  };
  loss();
  const View d_gate_up = s.constant(f64, {4, 6}, 0), d_scale = s.constant(f64, {5}, 0),
             again = s.constant(f64, {4, 3}, 0);
  oracle->run(SwiGluBackward{.gate_up = gate_up,
                             .scale = scale,
                             .scale_index = index,
                             .row_count = count,
                             .dy = weights,
                             .d_gate_up = d_gate_up,
                             .y = again,
                             .d_scale = d_scale});
  EXPECT_EQ(read(again).values(), read(y).values());
  expect_gradient("d_gate_up", read(d_gate_up), gate_up, loss);
  expect_gradient("d_scale", read(d_scale), scale, loss);
}

TEST(Gradients, SwiGluBackwardInPlaceGivesTheSame) {
  const auto oracle = make_oracle();
  Store s(4);
  const View gate_up = s.normal(f64, {3, 8}), dy = s.normal(f64, {3, 4});
  const View apart = s.poison(f64, {3, 8}), y = s.poison(f64, {3, 4});
  oracle->run(SwiGluBackward{.gate_up = gate_up, .dy = dy, .d_gate_up = apart, .y = y});
  oracle->run(SwiGluBackward{.gate_up = gate_up, .dy = dy, .d_gate_up = gate_up, .y = dy});
  EXPECT_EQ(read(gate_up).values(), read(apart).values());
  EXPECT_EQ(read(dy).values(), read(y).values());
}

TEST(Gradients, InverseRopeIsTheBackwardAndTheInverseOfRope) {
  const auto oracle = make_oracle();
  Store s(5);
  const View x = s.normal(f64, {3, 12}), weights = s.normal(f64, {3, 12}), table = s.poison(f64, {3, 6});
  oracle->run(RopeTable{.positions = s.indices({3}, {0, 5, 1000}), .theta = 10000, .table = table});
  const auto loss = [&] {
    const View rotated = s.copy(x);
    oracle->run(Rope{.x = rotated, .table = table});
    return dot(rotated, weights);
  };
  const View dx = s.copy(weights);
  oracle->run(Rope{.x = dx, .table = table, .inverse = true});
  expect_gradient("dx", read(dx), x, loss);

  const View round_trip = s.copy(x);
  oracle->run(Rope{.x = round_trip, .table = table});
  oracle->run(Rope{.x = round_trip, .table = table, .inverse = true});
  for (int64_t i = 0; i < x.elements(); ++i) EXPECT_NEAR(read(round_trip)(i), read(x)(i), 1e-15);
}

TEST(Gradients, RopeMakesProductsDependOnDistanceAlone) {
  const auto oracle = make_oracle();
  Store s(6);
  const View q = s.normal(f64, {1, 8}), k = s.normal(f64, {1, 8}), table = s.poison(f64, {1, 8});
  const auto product = [&](int64_t q_position, int64_t k_position) {
    const View rotated_q = s.copy(q), rotated_k = s.copy(k);
    oracle->run(RopeTable{.positions = s.indices({1}, {q_position}), .theta = 500, .table = table});
    oracle->run(Rope{.x = rotated_q, .table = table});
    oracle->run(RopeTable{.positions = s.indices({1}, {k_position}), .theta = 500, .table = table});
    oracle->run(Rope{.x = rotated_k, .table = table});
    return dot(rotated_q, rotated_k);
  };
  EXPECT_NEAR(product(7, 3), product(107, 103), 1e-12);
  EXPECT_GT(std::abs(product(7, 3) - product(7, 4)), 1e-3);
}

TEST(Gradients, AttentionBackwardGivesTheGradientsOfQueriesKeysAndValues) {
  const auto oracle = make_oracle();
  Store s(7);
  constexpr int64_t tokens = 9, h = 3;
  const View q = s.normal(f64, {tokens, 4 * h}), k = s.normal(f64, {tokens, 2 * h}), v = s.normal(f64, {tokens, 2 * h});
  const View start = s.indices({tokens}, {0, 0, 0, 0, 4, 5, 5, -1, -1}), weights = s.normal(f64, {tokens, 4 * h});
  const View out = s.poison(f64, {tokens, 4 * h}), lse = s.poison(f64, {tokens, 4});
  const auto loss = [&] {
    oracle->run(Attention{.q = q,
                          .k = k,
                          .v = v,
                          .segment_start = start,
                          .heads = 4,
                          .kv_heads = 2,
                          .scale = 0.6f,
                          .max_segment = tokens,
                          .out = out,
                          .lse = lse});
    return dot(out, weights);
  };
  loss();
  const View dq = s.poison(f64, q.shape), dk = s.poison(f64, k.shape), dv = s.poison(f64, v.shape);
  oracle->run(AttentionBackward{.q = q,
                                .k = k,
                                .v = v,
                                .segment_start = start,
                                .out = out,
                                .lse = lse,
                                .d_out = weights,
                                .heads = 4,
                                .kv_heads = 2,
                                .scale = 0.6f,
                                .max_segment = tokens,
                                .dq = dq,
                                .dk = dk,
                                .dv = dv});
  expect_gradient("dq", read(dq), q, loss);
  expect_gradient("dk", read(dk), k, loss);
  expect_gradient("dv", read(dv), v, loss);
  for (int64_t c = 0; c < 4 * h; ++c) EXPECT_EQ(read(dq)(8, c), 0);
  for (int64_t c = 0; c < 2 * h; ++c) EXPECT_EQ(read(dv)(7, c), 0);
}

TEST(Gradients, EmbedBackwardGivesTheGradientOfTheTable) {
  const auto oracle = make_oracle();
  Store s(8);
  const View table = s.normal(f64, {5, 3}), tokens = s.indices({6}, {4, 1, 1, 0, 4, 1}),
             weights = s.normal(f64, {6, 3});
  const View y = s.poison(f64, {6, 3});
  const auto loss = [&] {
    oracle->run(Embed{.tokens = tokens, .table = table, .y = y});
    return dot(y, weights);
  };
  const View d_table = s.constant(f64, {5, 3}, 0);
  oracle->run(EmbedBackward{.tokens = tokens, .dy = weights, .d_table = d_table});
  expect_gradient("d_table", read(d_table), table, loss);
  oracle->run(EmbedBackward{.tokens = tokens, .dy = weights, .d_table = d_table});
  expect_gradient("d_table, added twice", read(d_table), table, [&] { return 2 * loss(); });
}

// The gradient of sum of gradient_scale * row_loss, with and without weights.
void check_cross_entropy(const View& weights) {
  const auto oracle = make_oracle();
  Store s(9);
  const View logits = s.normal(f64, {4, 6}, 2), targets = s.indices({4}, {5, -1, 0, 2}), row_loss = s.poison(f64, {4});
  const double gradient_scale = 0.25;
  const auto loss = [&] {
    oracle->run(CrossEntropy{.logits = logits, .targets = targets, .weights = weights, .row_loss = row_loss});
    double sum = 0;
    for (const double value : read(row_loss).values()) sum += gradient_scale * value;
    return sum;
  };
  const View d_logits = s.poison(f64, logits.shape);
  oracle->run(CrossEntropy{.logits = logits,
                           .targets = targets,
                           .weights = weights,
                           .gradient_scale = s.reals(f64, {1}, {gradient_scale}),
                           .d_logits = d_logits,
                           .row_loss = row_loss});
  EXPECT_EQ(read(row_loss)(1), 0);
  expect_gradient("d_logits", read(d_logits), logits, loss);
}

TEST(Gradients, CrossEntropyGivesTheGradientOfItsScaledLoss) { check_cross_entropy({}); }

TEST(Gradients, CrossEntropyWithWeightsGivesTheGradientOfItsScaledLoss) {
  Store s(10);
  check_cross_entropy(s.reals(f64, {4}, {0.5, 3, 0, 2}));
}

}  // namespace
}  // namespace moe::oracle
