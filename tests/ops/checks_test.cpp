#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/backend.h"
#include "ops/rotated_attention.h"
#include "ops/routed_ffn.h"

namespace moe {
namespace {

/// Views over one buffer, each in memory of its own.
class Checks : public testing::Test {
 protected:
  View make(DType dtype, Shape shape) {
    const View view(memory_ + used_, dtype, shape);
    used_ += (view.bytes() + 127) / 64 * 64;
    return view;
  }
  View f32(Shape shape) { return make(DType::f32, shape); }
  View f64(Shape shape) { return make(DType::f64, shape); }
  View bf16(Shape shape) { return make(DType::bf16, shape); }
  View i32(Shape shape) { return make(DType::i32, shape); }

  RmsNorm rms_norm() {
    return {.x = f32({2, 4}), .gain = f32({4}), .eps = 1e-6f, .y = f32({2, 4}), .inv_rms = f32({2})};
  }
  SwiGluBackward swiglu_backward() {
    return {.gate_up = f32({3, 8}),
            .scale = f32({5}),
            .scale_index = i32({3}),
            .dy = f32({3, 4}),
            .d_gate_up = f32({3, 8}),
            .y = f32({3, 4}),
            .d_scale = f32({5})};
  }
  /// Forward of three rows through two experts of width 2.
  ExpertRows<SwiGlu> expert_rows() {
    const View offsets = i32({3}), gate_up = f32({3, 4}), y = f32({3, 2});
    return {.first = {.a = f32({5, 4}),
                      .a_rows = i32({3}),
                      .offsets = offsets,
                      .b = f32({2, 4, 4}),
                      .c = gate_up,
                      .transpose_b = true},
            .activation = {.gate_up = gate_up, .row_count = offsets.rows(2, 1), .y = y},
            .last = {.a = y, .offsets = offsets, .b = f32({2, 4, 2}), .c = f32({3, 4}), .transpose_b = true}};
  }

  /// The backward pass of the same, of five tokens with two slots each.
  ExpertsBackward experts_backward() {
    const View offsets = i32({3}), row_token = i32({3}), d_gate_up = f32({3, 4}), activated = f32({3, 2});
    const View dy = f32({5, 4});
    return {.rows = {.first = {.a = dy, .a_rows = row_token, .offsets = offsets, .b = f32({2, 4, 2}), .c = activated},
                     .activation = {.gate_up = d_gate_up,
                                    .row_count = offsets.rows(2, 1),
                                    .dy = activated,
                                    .d_gate_up = d_gate_up,
                                    .y = activated},
                     .last = {.a = d_gate_up, .offsets = offsets, .b = f32({2, 4, 4}), .c = f32({3, 4})}},
            .down = {.a = dy, .a_rows = row_token, .b = activated, .offsets = offsets, .c = f32({2, 4, 2})},
            .gate_up = {.a = d_gate_up, .b = f32({5, 4}), .b_rows = row_token, .offsets = offsets, .c = f32({2, 4, 4})},
            .slot_row = i32({5, 2})};
  }

 private:
  alignas(64) char memory_[1 << 18];
  size_t used_ = 0;
};

template <class Op>
std::string error_of(const Op& op) {
  try {
    check(op);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

using testing::HasSubstr;

TEST_F(Checks, CorrectOperationsPass) {
  EXPECT_EQ(error_of(rms_norm()), "");
  EXPECT_EQ(error_of(swiglu_backward()), "");
}

TEST_F(Checks, ExpertRowsMustBelongTogether) {
  EXPECT_EQ(error_of(expert_rows()), "");
  auto op = expert_rows();
  op.activation.gate_up = f32({3, 4});
  EXPECT_THAT(error_of(op), HasSubstr("the activation's input is f32 [3, 4] and first.c is f32 [3, 4], expected the "
                                      "very same view"));
  op = expert_rows();
  op.last.a = f32({3, 2});
  EXPECT_THAT(error_of(op), HasSubstr("last.a"));
  op = expert_rows();
  op.last.offsets = i32({3});
  EXPECT_THAT(error_of(op), HasSubstr("last.offsets"));
  op = expert_rows();
  op.activation.row_count = i32({1});
  EXPECT_THAT(error_of(op), HasSubstr("activation.row_count"));
  op = expert_rows();
  op.activation.row_count = {};
  EXPECT_THAT(error_of(op), HasSubstr("activation.row_count"));
  op = expert_rows();
  op.last.a_rows = i32({3});
  EXPECT_THAT(error_of(op), HasSubstr("last.a_rows"));
  op = expert_rows();
  op.last.c = op.first.a.rows(0, 3);
  EXPECT_THAT(error_of(op), HasSubstr("last.c overlaps a of grouped_gemm"));
  op = expert_rows();
  op.activation.y = op.last.a = op.first.a.rows(0, 3).columns(0, 2);
  EXPECT_THAT(error_of(op), HasSubstr("y overlaps a of grouped_gemm"));
  op = expert_rows();
  op.activation.y = op.last.a = View(op.last.b.data, DType::f32, {3, 2});
  EXPECT_THAT(error_of(op), HasSubstr("y overlaps last.b"));
  op = expert_rows();
  op.last.b = f32({2, 4, 3});
  EXPECT_THAT(error_of(op), HasSubstr("grouped_gemm"));
}

TEST_F(Checks, TheBackwardPassOfExpertsMustBelongTogether) {
  EXPECT_EQ(error_of(experts_backward()), "");
  auto op = experts_backward();
  op.down.a = f32({5, 4});
  EXPECT_THAT(error_of(op),
              HasSubstr("down.a is f32 [5, 4] and rows.first.a is f32 [5, 4], expected the very same view"));
  op = experts_backward();
  op.down.a_rows = i32({3});
  EXPECT_THAT(error_of(op), HasSubstr("down.a_rows"));
  op = experts_backward();
  op.down.b = f32({3, 2});
  EXPECT_THAT(error_of(op), HasSubstr("down.b"));
  op = experts_backward();
  op.gate_up.a = f32({3, 4});
  EXPECT_THAT(error_of(op), HasSubstr("gate_up.a"));
  op = experts_backward();
  op.gate_up.b_rows = i32({3});
  EXPECT_THAT(error_of(op), HasSubstr("gate_up.b_rows"));
  op = experts_backward();
  op.gate_up.offsets = i32({3});
  EXPECT_THAT(error_of(op), HasSubstr("the offsets of a reduction"));
  op = experts_backward();
  op.slot_row = i32({4, 2});
  EXPECT_THAT(error_of(op), HasSubstr("rows_gather"));
  op = experts_backward();
  op.gate_up.b = f32({5, 3});
  EXPECT_THAT(error_of(op), HasSubstr("rows_gather"));
  op = experts_backward();
  op.gate_up.c = f32({2, 4, 3});
  EXPECT_THAT(error_of(op), HasSubstr("grouped_gemm_reduce"));
  op.gate_up.c = {};  // frozen
  EXPECT_EQ(error_of(op), "");
  op = experts_backward();
  op.gate_up.c = View(op.rows.last.b.data, DType::f32, {2, 4, 4});
  EXPECT_THAT(error_of(op), HasSubstr("a reduction's c overlaps b of grouped_gemm"));
}

TEST_F(Checks, SquaresAreOfContiguousSums) {
  GroupedGemmReduce op = experts_backward().down;
  op.squares = f32({1});
  EXPECT_THAT(error_of(op), HasSubstr("squares"));
  op = experts_backward().down;
  op.squares = View(f32({16}).data, DType::f64, {1});
  EXPECT_EQ(error_of(op), "");
  op.c = f32({2, 4, 6});
  op.c.shape = {2, 4, 2};
  EXPECT_THAT(error_of(op), HasSubstr("has gaps between its rows"));
}

TEST_F(Checks, AHeadThatNoBackendsBlocksHoldIsRefused) {
  for (const int64_t size : {kMostHeadSize, kMostHeadSize + 2}) {
    const View rows = f32({1, size}), starts = i32({1}), lse = f32({1, 1});
    const std::string error = error_of(Attention{.q = rows,
                                                 .k = rows,
                                                 .v = rows,
                                                 .segment_start = starts,
                                                 .heads = 1,
                                                 .kv_heads = 1,
                                                 .scale = 1,
                                                 .max_segment = 1,
                                                 .out = f32({1, size}),
                                                 .lse = lse});
    EXPECT_EQ(error, size == kMostHeadSize ? "" : "attention: q has heads of 4098 columns, expected at most 4096");
  }
}

TEST_F(Checks, AWrongSizeNamesWhereTheExpectedOneComesFrom) {
  auto op = rms_norm();
  op.gain = f32({3});
  EXPECT_EQ(error_of(op), "rms_norm: gain is f32 [3], expected [D] = [4] (beside x, f32 [2, 4])");
}

TEST_F(Checks, AComputedSizeNamesWhereItComesFrom) {
  auto op = swiglu_backward();
  op.gate_up = f32({3, 7});
  EXPECT_EQ(error_of(op), "swiglu_backward: gate_up is f32 [3, 7], expected [T, 2F] = [3, 8] (beside dy, f32 [3, 4])");
}

TEST_F(Checks, AWrongRankIsRefused) {
  auto op = rms_norm();
  op.x = f32({4});
  EXPECT_EQ(error_of(op), "rms_norm: x is f32 [4], expected [T, D]");
}

TEST_F(Checks, AnAbsentRequiredViewIsRefused) {
  auto op = rms_norm();
  op.inv_rms = {};
  EXPECT_EQ(error_of(op), "rms_norm: inv_rms is absent, expected a tensor");
}

TEST_F(Checks, HalfAnOptionalPairIsRefused) {
  auto op = rms_norm();
  op.residual = f32({2, 4});
  EXPECT_EQ(error_of(op), "rms_norm: residual is given without sum, expected both or neither");
  op.sum = f32({2, 4});
  EXPECT_EQ(error_of(op), "");
  auto backward = swiglu_backward();
  backward.d_scale = {};
  EXPECT_EQ(error_of(backward), "swiglu_backward: scale is given without d_scale, expected both or neither");
}

TEST_F(Checks, OperandsMixF32AndBf16ButNotF64) {
  auto op = rms_norm();
  op.x = bf16({2, 4});
  EXPECT_EQ(error_of(op), "");
  op.y = f64({2, 4});
  EXPECT_EQ(error_of(op), "rms_norm: y is f64 [2, 4], expected f32 or bf16 (beside x, bf16 [2, 4])");
}

TEST_F(Checks, StatisticsFollowThePrecisionOfTheData) {
  auto op = rms_norm();
  op.inv_rms = bf16({2});
  EXPECT_EQ(error_of(op), "rms_norm: inv_rms is bf16 [2], expected f32 (beside x, f32 [2, 4])");
  op = {.x = f64({2, 4}), .gain = f64({4}), .eps = 0, .y = f64({2, 4}), .inv_rms = f32({2})};
  EXPECT_EQ(error_of(op), "rms_norm: inv_rms is f32 [2], expected f64 (beside x, f64 [2, 4])");
  op.inv_rms = f64({2});
  EXPECT_EQ(error_of(op), "");
}

TEST_F(Checks, IndicesAreI32) {
  const Embed op{.tokens = f32({3}), .table = f32({9, 4}), .y = f32({3, 4})};
  EXPECT_EQ(error_of(op), "embed: tokens is f32 [3], expected i32");
}

TEST_F(Checks, IntegersAreNoOperands) {
  auto op = rms_norm();
  op.x = i32({2, 4});
  EXPECT_EQ(error_of(op), "rms_norm: x is i32 [2, 4], expected f32, bf16 or f64");
}

TEST_F(Checks, AStrideAlongTheLastAxisIsRefused) {
  auto op = rms_norm();
  op.x = f32({2, 8});
  op.x.shape = {2, 4};
  op.x.stride = {8, 2};
  EXPECT_EQ(error_of(op), "rms_norm: x, f32 [2, 4], has stride 2 along its last axis, expected 1");
}

TEST_F(Checks, RowsThatOverlapAreRefused) {
  auto op = rms_norm();
  op.x.stride = {3, 1};
  EXPECT_EQ(error_of(op),
            "rms_norm: x, f32 [2, 4], has stride 3 along axis 0, expected at least 4 so that its parts do not overlap");
}

TEST_F(Checks, ColumnsOfAWiderMatrixAreLegalAtAnyWidth) {
  auto op = rms_norm();
  const View wide = f32({2, 13});
  op.x = wide.columns(0, 4);
  op.y = wide.columns(5, 4);
  EXPECT_EQ(error_of(op), "");
  op.y = wide.columns(3, 4);
  EXPECT_EQ(error_of(op), "rms_norm: y, f32 [2, 4], overlaps x, f32 [2, 4], expected memory of its own");
}

TEST_F(Checks, AnAddressOffTheElementIsRefused) {
  auto op = rms_norm();
  op.x.data = static_cast<char*>(op.x.data) + 2;
  EXPECT_THAT(error_of(op), HasSubstr("rms_norm: x, f32 [2, 4], is at address 0x"));
  EXPECT_THAT(error_of(op), HasSubstr("expected a multiple of its element's 4 bytes"));
}

TEST_F(Checks, InPlaceMustBeTheVerySameView) {
  auto op = swiglu_backward();
  op.d_gate_up = op.gate_up;
  op.y = op.dy;
  EXPECT_EQ(error_of(op), "");
  const View rows = f32({4, 8});
  op.gate_up = rows.rows(0, 3);
  op.d_gate_up = rows.rows(1, 3);
  EXPECT_EQ(error_of(op),
            "swiglu_backward: d_gate_up, f32 [3, 8], overlaps gate_up, f32 [3, 8], expected the very same view or none "
            "of its elements");
}

TEST_F(Checks, TwoOutputsNeverShareMemory) {
  Distillation op{.scores = f32({2, 8}),
                  .ids = i32({2, 1}),
                  .group = i32({2}),
                  .inv_tokens = f32({1}),
                  .weight = 1,
                  .loss = f32({1}),
                  .d_logits = f32({2, 8})};
  EXPECT_EQ(error_of(op), "");
  op.loss.data = op.d_logits.data;
  EXPECT_EQ(error_of(op), "distillation: loss, f32 [1], overlaps d_logits, f32 [2, 8], expected memory of its own");
}

TEST_F(Checks, MoreChoicesThanExpertsAreRefused) {
  const RouterTopk op{.scores = f32({2, 4}), .group = i32({2}), .ids = i32({2, 5})};
  EXPECT_EQ(error_of(op), "router_topk: K is 5 choices of 4 experts, expected at most E distinct ones");
}

TEST_F(Checks, SkippedAndChosenExpertsMustBeThere) {
  RouterTopk op{.scores = f32({2, 4}), .bias = f32({4}), .group = i32({2}), .skip = 2, .ids = i32({2, 2})};
  EXPECT_EQ(error_of(op), "");
  op.skip = 3;
  EXPECT_EQ(error_of(op),
            "router_topk: skip is 3 beside K = 2 choices of 4 experts, expected them to be at most as many together");
}

TEST_F(Checks, HeadsMustShareKeysEvenly) {
  const Attention op{.q = f32({5, 24}),
                     .k = f32({5, 16}),
                     .v = f32({5, 16}),
                     .segment_start = i32({5}),
                     .heads = 6,
                     .kv_heads = 4,
                     .scale = 1,
                     .max_segment = 5,
                     .out = f32({5, 24}),
                     .lse = f32({5, 6})};
  EXPECT_EQ(error_of(op), "attention: heads is 6, expected a multiple of kv_heads, 4");
}

TEST_F(Checks, KeysAreAsWideAsTheirHeads) {
  const CachedAttention op{.q = f32({1, 24}),
                           .k_cache = f32({2, 8, 24}),
                           .v_cache = f32({2, 8, 12}),
                           .sequence = i32({1}),
                           .positions = i32({1}),
                           .pages = i32({1, 2}),
                           .heads = 6,
                           .kv_heads = 3,
                           .scale = 1,
                           .out = f32({1, 24})};
  EXPECT_EQ(error_of(op),
            "cached_attention: k_cache is f32 [2, 8, 24], expected [N, P, Hkv*h] = [2, 8, 12] (beside q, f32 [1, 24])");
}

TEST_F(Checks, ACacheHasPagesOfTokens) {
  const KvAppend op{.k = f32({3, 4}),
                    .v = f32({3, 4}),
                    .sequence = i32({3}),
                    .positions = i32({3}),
                    .pages = i32({2, 5}),
                    .k_cache = f32({6, 8, 4}),
                    .v_cache = f32({6, 8, 4})};
  EXPECT_EQ(error_of(op), "");
  KvAppend empty = op;
  empty.k_cache = empty.v_cache = f32({6, 0, 4});
  EXPECT_EQ(error_of(empty), "kv_append: k_cache is f32 [6, 0, 4], expected pages of at least 1 token");
  KvAppend flat = op;
  flat.pages = i32({5});
  EXPECT_EQ(error_of(flat), "kv_append: pages is i32 [5], expected [S, M]");
}

TEST_F(Checks, TheCostOfACacheIsThatOfItsOwnRowsAndListedPages) {
  const KvAppend append{.k = f32({3, 4}),
                        .v = f32({3, 4}),
                        .sequence = i32({3}),
                        .positions = i32({3}),
                        .pages = i32({2, 5}),
                        .k_cache = f32({600, 8, 4}),
                        .v_cache = f32({600, 8, 4})};
  EXPECT_EQ(traffic_bytes(append), 4 * (2 * 2 * 12 + 3 + 3 + 10));
  CachedAttention attend{.q = f32({3, 8}),
                         .k_cache = append.k_cache,
                         .v_cache = append.v_cache,
                         .sequence = append.sequence,
                         .positions = append.positions,
                         .pages = append.pages,
                         .heads = 2,
                         .kv_heads = 1,
                         .scale = 1,
                         .out = f32({3, 8})};
  EXPECT_EQ(traffic_bytes(attend), 4 * (2 * 24 + 3 + 3 + 10 + 2 * 10 * 8 * 4));
  EXPECT_EQ(flops(attend), 4 * 24 * 5 * 8);
  attend.k_cache = attend.v_cache = f32({4, 8, 4});  // fewer pages than the table lists: shared ones are read once
  EXPECT_EQ(traffic_bytes(attend), 4 * (2 * 24 + 3 + 3 + 10 + 2 * 4 * 8 * 4));
}

TEST_F(Checks, TheKeysThatAreAppendedAreThoseThatWereRotated) {
  const View qkv = f32({3, 16});
  const View k_cache = f32({6, 8, 4}), v_cache = f32({6, 8, 4}), of = i32({3}), at = i32({3}), pages = i32({2, 5});
  const RotatedAttention op{.rope = {.x = qkv.columns(0, 12), .table = f32({3, 4})},
                            .append = {.k = qkv.columns(8, 4),
                                       .v = qkv.columns(12, 4),
                                       .sequence = of,
                                       .positions = at,
                                       .pages = pages,
                                       .k_cache = k_cache,
                                       .v_cache = v_cache},
                            .attention = {.q = qkv.columns(0, 8),
                                          .k_cache = k_cache,
                                          .v_cache = v_cache,
                                          .sequence = of,
                                          .positions = at,
                                          .pages = pages,
                                          .heads = 2,
                                          .kv_heads = 1,
                                          .scale = 1,
                                          .out = f32({3, 8})}};
  EXPECT_EQ(error_of(op), "");
  RotatedAttention apart = op;
  apart.append.k = f32({3, 4});
  EXPECT_EQ(error_of(apart), "rotated_attention: append.k is not the last columns of rope.x");
  RotatedAttention other = op;
  other.attention.q = f32({3, 8});
  EXPECT_EQ(error_of(other), "rotated_attention: attention.q is not the columns of rope.x before append.k");
  RotatedAttention two = op;
  two.attention.k_cache = f32({6, 8, 4});
  EXPECT_EQ(error_of(two), "rotated_attention: append and attention differ in the cache or its order");
  RotatedAttention both = op;
  both.append.v = qkv.columns(8, 4);
  EXPECT_EQ(error_of(both), "rotated_attention: what is rotated overlaps values or the cache");
  RotatedAttention onto = op;
  onto.attention.out = qkv.columns(8, 8);
  EXPECT_EQ(error_of(onto), "rotated_attention: attention.out overlaps what is rotated or appended");
}

TEST_F(Checks, SharedAndRoutedExpertsOfOneOperationWriteNothingOfEachOther) {
  const View x = f32({3, 4}), scores = f32({3, 5}), ids = i32({3, 2}), gates = f32({3, 2}), offsets = i32({6}),
             row_slot = i32({6}), row_token = i32({6}), slot_row = i32({3, 2}), shared_c = f32({3, 8}),
             shared_y = f32({3, 4}), c = f32({6, 4}), activated = f32({6, 2}), rows = f32({6, 4}), y = f32({3, 4});
  const RoutedFfn op{
      .norm = {.x = f32({3, 4}), .gain = f32({4}), .eps = 1e-6F, .y = x, .inv_rms = f32({3})},
      .route = {.scores = {.x = x, .weight = f32({5, 4}), .scoring = Scoring::softmax, .scores = scores},
                .choice = {.scores = scores, .group = i32({3}), .ids = ids},
                .gates = {.scores = scores, .ids = ids, .gates = gates},
                .plan = {.ids = ids,
                         .offsets = offsets,
                         .row_slot = row_slot,
                         .row_token = row_token,
                         .slot_row = slot_row}},
      .shared = {.product = {.a = x, .b = f32({8, 4}), .c = shared_c, .transpose_b = true},
                 .activation = {.gate_up = shared_c, .y = shared_y}},
      .shared_down = {.a = shared_y, .b = f32({4, 4}), .c = y, .transpose_b = true},
      .experts =
          {.first = {.a = x, .a_rows = row_token, .offsets = offsets, .b = f32({5, 4, 4}), .c = c, .transpose_b = true},
           .activation = {.gate_up = c,
                          .scale = gates.reshaped({6}),
                          .scale_index = row_slot,
                          .row_count = offsets.rows(5, 1),
                          .y = activated},
           .last = {.a = activated, .offsets = offsets, .b = f32({5, 4, 2}), .c = rows, .transpose_b = true}},
      .combine = {.rows = rows, .slot_row = slot_row, .residual = f32({3, 4}), .y = y, .accumulate = true}};
  EXPECT_EQ(error_of(op), "");
  RoutedFfn other_input = op;
  other_input.shared.product.a = f32({3, 4});
  EXPECT_EQ(error_of(other_input), "routed_ffn: what is routed or multiplied is not the norm's result");
  RoutedFfn other_result = op;
  other_result.combine.y = f32({3, 4});
  EXPECT_EQ(error_of(other_result), "routed_ffn: what is combined is not added to the shared experts' result");
  RoutedFfn over_choice = op;
  over_choice.shared.product.c = over_choice.shared.activation.gate_up = View(c.data, DType::f32, {3, 8});
  EXPECT_EQ(error_of(over_choice), "routed_ffn: a result of the shared or the routed experts overlaps the others'");
}

TEST_F(Checks, HeadSizeOfARotationIsEven) {
  const Rope op{.x = f32({2, 9}), .table = f32({2, 3})};
  EXPECT_EQ(error_of(op), "rope: table is f32 [2, 3], expected an even head size");
  const Rope uneven{.x = f32({2, 10}), .table = f32({2, 4})};
  EXPECT_EQ(error_of(uneven), "rope: x is f32 [2, 10], expected rows of whole heads of size 4");
}

TEST_F(Checks, OffsetsAreOneMoreThanExperts) {
  const GroupedGemm op{.a = f32({3, 4}), .offsets = i32({2}), .b = f32({2, 4, 5}), .c = f32({3, 5})};
  EXPECT_EQ(error_of(op), "grouped_gemm: offsets is i32 [2], expected [E+1] = [3] (beside b, f32 [2, 4, 5])");
}

TEST_F(Checks, WithoutARowIndexAHasTheRowsOfC) {
  GroupedGemm op{.a = f32({4, 4}), .offsets = i32({3}), .b = f32({2, 4, 5}), .c = f32({3, 5})};
  EXPECT_EQ(error_of(op), "grouped_gemm: a is f32 [4, 4], expected [R, K] = [3, 4] (beside c, f32 [3, 5])");
  op.a_rows = i32({3});
  EXPECT_EQ(error_of(op), "");
}

TEST_F(Checks, DevicesDivideExperts) {
  const BalanceCoefficients op{.counts = i32({1, 6}),
                               .group_tokens = i32({1}),
                               .inv_tokens = f32({1}),
                               .top_k = 2,
                               .alpha = 1,
                               .devices = 4,
                               .coefficients = f32({1, 6})};
  EXPECT_EQ(error_of(op), "balance_coefficients: devices is 4, expected a divisor of 6 columns");
}

TEST_F(Checks, NumbersWantContiguousViewsOfEqualLength) {
  const View gaps = f32({2, 9}).columns(0, 4);
  EXPECT_EQ(error_of(Fill{.x = gaps, .value = 1}),
            "fill: x, f32 [2, 4], has gaps between its rows, expected it contiguous");
  EXPECT_EQ(error_of(Cast{.x = f32({2, 4}), .y = bf16({3, 2})}),
            "cast: y is bf16 [3, 2], expected 8 elements (beside x, f32 [2, 4])");
  EXPECT_EQ(error_of(Cast{.x = f32({2, 4}), .y = bf16({8})}), "");
  EXPECT_EQ(error_of(Cast{.x = i32({2, 4}), .y = bf16({8})}), "cast: x is i32 [2, 4], expected f32, bf16 or f64");
}

TEST_F(Checks, ABf16ParameterNeedsAMaster) {
  AdamW op{.param = bf16({2, 4}),
           .gradient = f32({2, 4}),
           .exp_avg = f32({2, 4}),
           .exp_avg_sq = f32({2, 4}),
           .gradient_scale = f32({1}),
           .learning_rate = 1,
           .beta1 = 0.9f,
           .beta2 = 0.95f,
           .eps = 1e-8f,
           .weight_decay = 0,
           .step = 0};
  EXPECT_EQ(error_of(op), "adamw: master is absent, expected one because param is bf16");
  op.master = f32({2, 4});
  EXPECT_EQ(error_of(op), "adamw: step is 0, expected at least 1");
  op.step = 1;
  EXPECT_EQ(error_of(op), "");
}

TEST_F(Checks, EmptyTensorsAreLegal) {
  const RmsNorm op{.x = f32({0, 4}), .gain = f32({4}), .eps = 0, .y = f32({0, 4}), .inv_rms = f32({0})};
  EXPECT_EQ(error_of(op), "");
}

TEST_F(Checks, ProductsAreCountedTwiceTheirTerms) {
  EXPECT_EQ(flops(Gemm{.a = f32({3, 4}), .b = f32({4, 5}), .c = f32({3, 5})}), 2 * 3 * 4 * 5);
  Attention op{.q = f32({8, 6}),
               .k = f32({8, 6}),
               .v = f32({8, 6}),
               .segment_start = i32({8}),
               .heads = 2,
               .kv_heads = 2,
               .scale = 1,
               .max_segment = 4,
               .out = f32({8, 6}),
               .lse = f32({8, 2})};
  EXPECT_EQ(flops(op), 2 * 2 * (2 * (1 + 2 + 3 + 4)) * 6);  // two products over two documents of four
}

}  // namespace
}  // namespace moe
