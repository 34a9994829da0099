// The recording wrapper passes on each operation once and adds up what the counting one does.

#include "ops/record.h"

#include <array>

#include <gtest/gtest.h>

#include "base/progress_count.h"

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

// By it other ranks see that this one does not hang.
TEST(Backend, CountsEachOperationAsProgress) {
  std::array<float, 8> memory{};
  CountingBackend backend;
  const uint64_t before = progress_count();
  for (int i = 0; i < 3; ++i) backend.run(Fill{.x = View(memory.data(), DType::f32, {8}), .value = 0});
  EXPECT_EQ(progress_count() - before, 3u);
}

/// A backend with its own way through an expert's rows.
class Fusing final : public EachOp<Fusing> {
 public:
  template <class Op>
  void on(const Op&) {
    ADD_FAILURE() << Op::name << " was run by itself";
  }
  bool fuses() const override { return true; }
  using EachOp<Fusing>::execute;
  void execute(const ExpertRows<SwiGlu>&) override { ++calls; }
  bool gathers(const ExpertsBackward&) const override { return true; }

  int calls = 0;
};

ExpertRows<SwiGlu> expert_rows(char* memory) {
  const auto f32 = [&](Shape shape) {
    const View view(memory, DType::f32, shape);
    memory += view.bytes();
    return view;
  };
  const View offsets(memory, DType::i32, {3});
  memory += 64;
  const View gate_up = f32({3, 4}), y = f32({3, 2});
  return {.first = {.a = f32({3, 4}), .offsets = offsets, .b = f32({2, 4, 4}), .c = gate_up, .transpose_b = true},
          .activation = {.gate_up = gate_up, .row_count = offsets.rows(2, 1), .y = y},
          .last = {.a = y, .offsets = offsets, .b = f32({2, 4, 2}), .c = f32({3, 4}), .transpose_b = true}};
}

TEST(RecordingBackend, PassesAFusionOnAsOne) {
  alignas(64) char memory[2048];
  const auto device = make_null_device();
  Fusing inner;
  RecordingBackend recorder(inner, *device);
  recorder.run(expert_rows(memory));
  recorder.record(false);
  recorder.run(expert_rows(memory));
  EXPECT_EQ(inner.calls, 2);
  EXPECT_EQ(recorder.records().size(), 1u);
  EXPECT_EQ(recorder.records().at("expert_rows").calls, 1);
  EXPECT_EQ(recorder.records().at("expert_rows").flops, 2 * (3 * 4 * 4 + 3 * 2 * 4));
}

TEST(RecordingBackend, RunsTheBackwardPassOfExpertsAsTheBackendWouldItself) {
  const auto device = make_null_device();
  Fusing gathering;
  CountingBackend in_turn;
  EXPECT_TRUE(RecordingBackend(gathering, *device).gathers({}));
  EXPECT_FALSE(RecordingBackend(in_turn, *device).gathers({}));
}

TEST(RecordingBackend, RecordsTheOperationsOfAFusionThatTheBackendRunsInTurn) {
  alignas(64) char memory[2048];
  const auto device = make_null_device();
  CountingBackend inner;
  RecordingBackend recorder(inner, *device);
  recorder.run(expert_rows(memory));
  EXPECT_EQ(recorder.records().size(), 2u);
  EXPECT_EQ(recorder.records().at("grouped_gemm").calls, 2);
  EXPECT_EQ(inner.costs().at("swiglu").calls, 1);
}

TEST(CountingBackend, CountsTheOperationsOfAFusion) {
  alignas(64) char memory[2048];
  CountingBackend counter;
  counter.run(expert_rows(memory));
  EXPECT_EQ(counter.costs().size(), 2u);
  EXPECT_EQ(counter.costs().at("grouped_gemm").calls, 2);
  EXPECT_EQ(counter.costs().at("swiglu").calls, 1);
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
