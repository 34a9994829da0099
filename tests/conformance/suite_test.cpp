/// The suite itself: each kind of mistake that a backend can make is found, and the field lists drive what is derived.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/conformance/compare.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Two experts with one row each and a row of padding.
struct Example {
  Store s{1};
  View c = s.poison(f32, {3, 4});
  Case<GroupedGemm> test{.name = "example",
                         .op = {.a = s.normal(f32, {3, 600}),
                                .offsets = s.indices({3}, {0, 1, 2}),
                                .b = s.normal(f32, {2, 600, 4}),
                                .c = c},
                         .misalign = 1};
};

/// What the suite says when `spoil` changes the oracle's correct run.
std::vector<std::string> said_about(const std::function<void(const GroupedGemm&)>& spoil) {
  const Example example;
  Expected<GroupedGemm> expected(example.test);
  const auto device = make_host_device();
  Placed<GroupedGemm> placed(example.test.op, *device, Precision::as_given, 1);
  oracle::compute(placed.op());
  spoil(placed.op());
  placed.buffers().download();
  return expected.differences(placed);
}

float& element(const View& view, int64_t row, int64_t column) {
  return static_cast<float*>(view.data)[row * view.stride[0] + column];
}

TEST(Suite, AcceptsACorrectRun) {
  EXPECT_THAT(said_about([](const GroupedGemm&) {}), IsEmpty());
}

TEST(Suite, FindsAnElementThatIsOffByLittleMoreThanRounding) {
  EXPECT_THAT(said_about([](const GroupedGemm& op) { element(op.c, 1, 2) += 1e-2f; }),
              ElementsAre(HasSubstr("c[1, 2]: found")));
}

TEST(Suite, FindsABfloat16Accumulator) {
  EXPECT_THAT(said_about([](const GroupedGemm& op) {
                float sum = 0;
                for (int64_t k = 0; k < 600; ++k) {
                  sum = to_float(to_bf16(sum + element(op.a, 0, k) * element(op.b.at(0), k, 0)));
                }
                element(op.c, 0, 0) = sum;
              }),
              ElementsAre(HasSubstr("c[0, 0]: found")));
}

TEST(Suite, FindsAnOutputThatWasNotWritten) {
  EXPECT_THAT(said_about([](const GroupedGemm& op) { element(op.c, 1, 3) = element(op.c, 2, 3); }),
              ElementsAre(HasSubstr("c[1, 3]: found nan")));
}

TEST(Suite, FindsARowThatShouldHaveBeenLeftAlone) {
  EXPECT_THAT(said_about([](const GroupedGemm& op) { element(op.c, 2, 0) = NAN; }),
              ElementsAre(HasSubstr("c[2, 0]: found nan, expected it left alone")));
}

TEST(Suite, FindsAWriteBeforeAndAfterAnOutput) {
  EXPECT_THAT(said_about([](const GroupedGemm& op) { element(op.c, 0, -1) = 0; }),
              ElementsAre(HasSubstr("c was written outside its elements, at byte -4")));
  EXPECT_THAT(said_about([](const GroupedGemm& op) { element(op.c, 3, 0) = 0; }),
              ElementsAre(HasSubstr("c was written outside its elements, at byte 48")));
}

TEST(Suite, FindsAnInputThatChanged) {
  EXPECT_THAT(said_about([](const GroupedGemm& op) { element(op.a, 2, 5) = 0; }),
              ElementsAre(HasSubstr("a is an input and changed")));
}

TEST(Suite, FindsAWriteBetweenStridedRows) {
  const auto device = make_host_device();
  Store s(2);
  s.set_row_gap(3);
  const Case<Add> test{.name = "", .op = {.x = s.normal(f32, {2, 5}), .y = s.normal(f32, {2, 5})}, .misalign = 0};
  Placed<Add> placed(test.op, *device);
  oracle::compute(placed.op());
  element(placed.op().y, 0, 6) = 1;
  placed.buffers().download();
  EXPECT_THAT(Expected<Add>(test).differences(placed), ElementsAre(HasSubstr("y was written outside")));
}

TEST(Suite, FindsARoundingThatIsNotToNearest) {
  const auto device = make_host_device();
  Store s(3);
  const Case<Cast> test{
      .name = "", .op = {.x = s.constant(f32, {1}, 1 + 0x1p-8), .y = s.poison(bf16_type, {1})}, .misalign = 0};
  Placed<Cast> placed(test.op, *device);
  static_cast<bf16*>(placed.op().y.data)->bits = 0x3f81;  // up, where the tie goes down to even
  placed.buffers().download();
  EXPECT_THAT(Expected<Cast>(test).differences(placed), ElementsAre(HasSubstr("expected exactly 1")));
}

TEST(FieldList, DrivesDescriptionTrafficAndPoison) {
  Store s(4);
  const View x = s.normal(bf16_type, {3, 8}), sum = s.normal(bf16_type, {3, 8});
  const RmsNorm op{.x = x,
                   .residual = s.normal(bf16_type, {3, 8}),
                   .sum = sum,
                   .gain = s.normal(f32, {8}),
                   .eps = 1e-6f,
                   .y = s.normal(bf16_type, {3, 8}),
                   .inv_rms = s.normal(f32, {3})};
  EXPECT_EQ(
      describe(op),
      "rms_norm(x bf16 [3, 8], residual bf16 [3, 8], sum bf16 [3, 8], gain f32 [8], y bf16 [3, 8], inv_rms f32 [3])");
  EXPECT_EQ(traffic_bytes(op), 4 * 3 * 8 * 2 + 8 * 4 + 3 * 4);
  EXPECT_EQ(traffic_bytes(Add{.x = x, .y = sum}), 3 * 3 * 8 * 2) << "y is read and written";
  const Gemm product{.a = x, .b = x, .c = sum};
  EXPECT_EQ(traffic_bytes(product), 3 * 3 * 8 * 2) << "c is written alone";
  Gemm added = product;
  added.accumulate = true;
  EXPECT_EQ(traffic_bytes(added), 4 * 3 * 8 * 2) << "c is read too";
  EXPECT_EQ(traffic_bytes(SwiGlu{.gate_up = x, .y = sum}), 2 * 3 * 8 * 2) << "y is protected, not read";
  const View numbers = s.normal(f32, {8});
  AdamW alone{};
  alone.param = alone.gradient = alone.exp_avg = alone.exp_avg_sq = numbers;
  alone.gradient_scale = s.normal(f32, {1});
  EXPECT_EQ(traffic_bytes(alone), 7 * 8 * 4 + 4);
  AdamW kept = alone;
  kept.param = s.normal(bf16_type, {8}), kept.master = numbers;
  EXPECT_EQ(traffic_bytes(kept), 7 * 8 * 4 + 8 * 2 + 4) << "a parameter beside its master is not read";

  const auto device = make_host_device();
  Placed<RmsNorm> placed(op, *device);
  for (const auto& field : RmsNorm::fields()) {
    const bool poisoned = std::isnan(oracle::read(placed.op().*field.view)(0));
    EXPECT_EQ(poisoned, field.role == Role::out) << field.name;
  }
}

TEST(FieldList, LeavesAnOutputInPlaceOfAnInputUnpoisoned) {
  Store s(5);
  const View x = s.normal(f32, {2, 4});
  const RmsNorm op{.x = x,
                   .residual = s.normal(f32, {2, 4}),
                   .sum = x,
                   .gain = s.normal(f32, {4}),
                   .eps = 1e-6f,
                   .y = s.poison(f32, {2, 4}),
                   .inv_rms = s.poison(f32, {2})};
  const auto device = make_host_device();
  Placed<RmsNorm> placed(op, *device);
  EXPECT_EQ(placed.op().x.data, placed.op().sum.data);
  EXPECT_EQ(oracle::read(placed.op().sum).values(), oracle::read(x).values());
}

}  // namespace
}  // namespace moe::conformance
