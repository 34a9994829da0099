// The recording wrapper passes on each operation once and adds up what the counting one does.

#include "ops/record.h"

#include <array>

#include <gtest/gtest.h>

namespace moe {
namespace {

TEST(RecordingBackend, PassesEachOperationOnOnceAndCountsIt) {
  std::array<float, 64> memory{};
  const View x(memory.data(), DType::f32, {2, 8});
  const View weight(memory.data() + 16, DType::f32, {3, 8});
  const View y(memory.data() + 40, DType::f32, {2, 3});
  CountingBackend inner;
  const auto device = make_null_device();
  RecordingBackend recorder(inner, *device);
  for (int i = 0; i < 2; ++i) recorder.run(Gemm{.a = x, .b = weight, .c = y, .transpose_b = true});
  recorder.run(Fill{.x = y, .value = 0});
  for (const auto& [name, cost] : inner.costs()) {
    const auto& record = recorder.records().at(name);
    EXPECT_EQ(record.calls, cost.calls) << name;
    EXPECT_EQ(record.flops, cost.flops) << name;
    EXPECT_EQ(record.bytes, cost.bytes) << name;
    EXPECT_GE(record.seconds, 0) << name;
  }
  EXPECT_EQ(recorder.records().size(), 2u);
  EXPECT_EQ(recorder.records().at("gemm").calls, 2);
  EXPECT_EQ(recorder.records().at("gemm").flops, 2 * (2 * 2 * 3 * 8));
  recorder.clear();
  EXPECT_TRUE(recorder.records().empty());
}

TEST(RecordingBackend, RefusesWhatTheContractRefusesBeforeItCounts) {
  std::array<float, 64> memory{};
  CountingBackend inner;
  const auto device = make_null_device();
  RecordingBackend recorder(inner, *device);
  const View x(memory.data(), DType::f32, {2, 8});
  const View y(memory.data() + 40, DType::f32, {2, 3});
  EXPECT_THROW(recorder.run(Add{.x = x, .y = y}), Error);
  EXPECT_TRUE(recorder.records().empty());
  EXPECT_TRUE(inner.costs().empty());
}

}  // namespace
}  // namespace moe
