// Gradients of a document whose keys do not fit the scratch: they are taken in several sweeps, and dQ by itself. Wide
// heads make that of a short document, which the oracle computes in a second.

#include <gtest/gtest.h>

#include "ops/attention.h"
#include "tests/backend/cpu/tensors.h"
#include "tests/oracle/naive.h"

namespace moe::test {
namespace {

constexpr int64_t kTokens = 160, kWidth = kMostHeadSize;  // one head: room for two blocks of 64 keys

struct Gradients {
  View dq, dk, dv;
};

/// ||a - b|| / ||b||.
double distance(const View& a, const View& b) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < b.elements(); ++i) {
    const double x = static_cast<double>(Tensors::get(a, i)), y = static_cast<double>(Tensors::get(b, i));
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(difference / norm);
}

class LongAttention : public testing::TestWithParam<Isa> {};

// A score is a sum of 4096 products, good to sqrt(4096) 2^-24 = 4e-6 in f32, and a gradient takes a few such steps.
// With bf16 operands the results are rounded to 2^-9, and by pairs so are the weights before.
TEST_P(LongAttention, GradientsOfKeysInSeveralSweepsAreTheOracles) {
  for (const auto& [type, bound] : {std::pair{DType::f32, 3e-5}, std::pair{DType::bf16, 8e-3}}) {
    Tensors t;
    const View segment_start = t.indices(std::vector<int32_t>(kTokens, 0));
    const View q = t.normal(type, {kTokens, kWidth}), k = t.normal(type, {kTokens, kWidth}),
               v = t.normal(type, {kTokens, kWidth}), d_out = t.normal(type, {kTokens, kWidth});
    Cpu cpu(2, GetParam());
    const Attention forward{.q = q,
                            .k = k,
                            .v = v,
                            .segment_start = segment_start,
                            .heads = 1,
                            .kv_heads = 1,
                            .scale = 1 / std::sqrt(static_cast<float>(kWidth)),
                            .max_segment = kTokens,
                            .out = t.nan(type, {kTokens, kWidth}),
                            .lse = t.nan(DType::f32, {kTokens, 1})};
    cpu.run(forward);
    const auto backward = [&](const Gradients& to) {
      return AttentionBackward{.q = q,
                               .k = k,
                               .v = v,
                               .segment_start = segment_start,
                               .out = forward.out,
                               .lse = forward.lse,
                               .d_out = d_out,
                               .heads = 1,
                               .kv_heads = 1,
                               .scale = forward.scale,
                               .max_segment = kTokens,
                               .dq = to.dq,
                               .dk = to.dk,
                               .dv = to.dv};
    };
    const auto make = [&](DType stored) {
      return Gradients{.dq = t.nan(stored, {kTokens, kWidth}),
                       .dk = t.nan(stored, {kTokens, kWidth}),
                       .dv = t.nan(stored, {kTokens, kWidth})};
    };
    const Gradients found = make(type), expected = make(DType::f32);
    cpu.run(backward(found));
    oracle::compute(backward(expected));
    EXPECT_LT(distance(found.dq, expected.dq), bound) << name(type) << " dq";
    EXPECT_LT(distance(found.dk, expected.dk), bound) << name(type) << " dk";
    EXPECT_LT(distance(found.dv, expected.dv), bound) << name(type) << " dv";
  }
}

INSTANTIATE_TEST_SUITE_P(Instructions, LongAttention, testing::ValuesIn(available_isas()),
                         [](const auto& tested) { return std::string(name(tested.param)); });

}  // namespace
}  // namespace moe::test
