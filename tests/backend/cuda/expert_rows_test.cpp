// Products of experts' rows that end in SwiGLU, and experts' backward passes on gathered rows, against the operations
// in turn: the same bits.

#include "ops/transfer.h"
#include "tests/backend/cuda/gpu_test.h"

namespace moe {
namespace {

constexpr int64_t kTokens = 1500, kHidden = 200;

class CudaExpertRows : public GpuTest {
 protected:
  struct Case {
    int64_t width;
    bool gathered, scaled;
    int processors;
  };

  ExpertRows<SwiGlu> layer(const std::vector<int32_t>& loads, const Case& c) {
    std::vector<int32_t> begins{0}, tokens, slots;
    for (const int32_t count : loads) begins.push_back(begins.back() + count);
    const auto experts = static_cast<int64_t>(loads.size());
    const int64_t rows = begins.back() + 37;  // the last ones belong to nobody
    for (int64_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<int32_t>(r * 31 % kTokens));
      slots.push_back(static_cast<int32_t>(rows - 1 - r));
    }
    const View offsets = integers(begins);
    const View gate_up = empty(DType::bf16, {rows, 2 * c.width}), y = empty(DType::bf16, {rows, c.width});
    return {.first = {.a = floats(DType::bf16, {c.gathered ? kTokens : rows, kHidden}),
                      .a_rows = c.gathered ? integers(tokens) : View{},
                      .offsets = offsets,
                      .b = floats(DType::bf16, {experts, 2 * c.width, kHidden}),
                      .c = gate_up,
                      .transpose_b = true},
            .activation = {.gate_up = gate_up,
                           .scale = c.scaled ? floats(DType::f32, {rows}) : View{},
                           .scale_index = c.scaled ? integers(slots) : View{},
                           .row_count = offsets.rows(experts, 1),
                           .y = y},
            .last = {.a = y,
                     .offsets = offsets,
                     .b = floats(DType::bf16, {experts, kHidden, c.width}),
                     .c = empty(DType::bf16, {rows, kHidden}),
                     .transpose_b = true}};
  }

  struct Results {
    std::vector<float> gate_up, y, rows;
    bool operator==(const Results&) const = default;
  };

  /// From the same start: what must be left alone shows.
  template <class Run>
  Results results(const ExpertRows<SwiGlu>& op, const Run& run) {
    for (const View& view : {op.first.c, op.activation.y, op.last.c})
      gpu_->backend->run(Fill{.x = view, .value = 0.25});
    run();
    return {values(op.first.c), values(op.activation.y), values(op.last.c)};
  }
  Results in_turn(const ExpertRows<SwiGlu>& op) {
    return results(op, [&] {
      gpu_->backend->run(op.first);
      gpu_->backend->run(op.activation);
      gpu_->backend->run(op.last);
    });
  }
  Results together(const ExpertRows<SwiGlu>& op) {
    return results(op, [&] { gpu_->backend->run(op); });
  }
};

TEST_F(CudaExpertRows, HaveTheBitsOfOneOperationAfterTheOther) {
  std::vector<int32_t> even;  // in pairs of tiles
  for (int e = 0; e < 24; ++e) even.push_back(1100 + 13 * (e * 7 % 11));
  even[3] = 0, even[4] = 1, even[17] = 127, even[18] = 128, even[23] = 129;
  const std::vector<int32_t> uneven{3000, 0, 1, 127, 128, 129, 255, 257, 5000, 256, 255, 1, 2560};
  for (const auto& loads : {even, uneven}) {
    for (const Case& c : {Case{432, true, true, 0}, Case{352, true, true, 3}, Case{512, false, true, 0},
                          Case{504, false, false, 3}, Case{864, true, true, 0}, Case{8, true, false, 3}}) {
      SCOPED_TRACE(fmt::format("{} experts, width {}, gathered={}, scaled={}, {} processors", loads.size(), c.width,
                               c.gathered, c.scaled, c.processors));
      force_cuda_processors(c.processors);
      const ExpertRows<SwiGlu> op = layer(loads, c);
      const Results expected = in_turn(op);
      const int64_t before = cuda_fused_products();
      const Results found = together(op);
      if (dynamic_cast<cuda::CudaDevice&>(*gpu_->device).properties().major == 9) {
        EXPECT_EQ(cuda_fused_products() - before, 1) << "the product did not end in SwiGLU";
      }
      EXPECT_TRUE(found.gate_up == expected.gate_up) << "gate_up";
      EXPECT_TRUE(found.y == expected.y) << "y";
      EXPECT_TRUE(found.rows == expected.rows) << "rows";
    }
  }
}

TEST_F(CudaExpertRows, OfFewRowsOrOddWidthsRunInTurn) {
  for (const int64_t width : {512, 260}) {
    const ExpertRows<SwiGlu> op = layer({width == 512 ? 100 : 9000, 30}, {width, true, true, 0});
    const Results expected = in_turn(op);
    const int64_t before = cuda_fused_products();
    EXPECT_TRUE(together(op) == expected);
    EXPECT_EQ(cuda_fused_products(), before);
  }
}

class CudaExpertsBackward : public GpuTest {
 protected:
  struct Case {
    int64_t width, hidden;
    bool accumulate;
    int processors;
  };

  ExpertsBackward layer(const std::vector<int32_t>& loads, const Case& c) {
    std::vector<int32_t> begins{0}, tokens, slots;
    for (const int32_t count : loads) begins.push_back(begins.back() + count);
    const auto experts = static_cast<int64_t>(loads.size());
    const int64_t taken = begins.back(), rows = taken + 37;  // the last ones belong to nobody
    constexpr int64_t kSlots = 24;
    std::vector<int32_t> slot_row(kTokens * kSlots, -1);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = r * 31 % kTokens, slot = token * kSlots + r / kTokens;
      tokens.push_back(static_cast<int32_t>(token));
      slots.push_back(static_cast<int32_t>(slot));
      if (r < taken) slot_row[static_cast<size_t>(slot)] = static_cast<int32_t>(r);
    }
    const View offsets = integers(begins), row_token = integers(tokens), row_slot = integers(slots);
    const View dy = floats(DType::bf16, {kTokens, c.hidden}), x = floats(DType::bf16, {kTokens, c.hidden});
    const View up = floats(DType::bf16, {experts, 2 * c.width, c.hidden});
    const View down = floats(DType::bf16, {experts, c.hidden, c.width});
    const View gate_up = empty(DType::bf16, {rows, 2 * c.width}), activated = empty(DType::bf16, {rows, c.width});
    saved_ = floats(DType::bf16, {rows, 2 * c.width});
    squares_ = empty(DType::f64, {1});
    return {.rows = {.first = {.a = dy, .a_rows = row_token, .offsets = offsets, .b = down, .c = activated},
                     .activation = {.gate_up = gate_up,
                                    .scale = floats(DType::f32, {kTokens * kSlots}),
                                    .scale_index = row_slot,
                                    .row_count = offsets.rows(experts, 1),
                                    .dy = activated,
                                    .d_gate_up = gate_up,
                                    .y = activated,
                                    .d_scale = empty(DType::f32, {kTokens * kSlots})},
                     .last = {.a = gate_up, .offsets = offsets, .b = up, .c = empty(DType::bf16, {rows, c.hidden})}},
            .down = {.a = dy,
                     .a_rows = row_token,
                     .b = activated,
                     .offsets = offsets,
                     .c = empty(DType::f32, {experts, c.hidden, c.width}),
                     .squares = squares_,
                     .accumulate = c.accumulate},
            .gate_up = {.a = gate_up,
                        .b = x,
                        .b_rows = row_token,
                        .offsets = offsets,
                        .c = empty(DType::f32, {experts, 2 * c.width, c.hidden}),
                        .squares = squares_,
                        .accumulate = c.accumulate},
            .slot_row = integers(slot_row).reshaped({kTokens, kSlots})};
  }

  struct Results {
    std::vector<float> d_gate_up, activated, d_rows, d_scale, d_down, d_first;
    double squares;
  };

  /// From the same start; of the rows' results those that an expert has.
  template <class Run>
  Results results(const ExpertsBackward& op, int64_t taken, const Run& run) {
    gpu_->backend->run(Cast{.x = saved_, .y = op.rows.activation.gate_up});
    for (const View& view : {op.rows.first.c, op.rows.last.c, op.rows.activation.d_scale, op.down.c, op.gate_up.c}) {
      gpu_->backend->run(Fill{.x = view, .value = 0.25});
    }
    gpu_->backend->run(Fill{.x = squares_, .value = 3});
    run();
    return {values(op.rows.activation.d_gate_up.rows(0, taken)),
            values(op.rows.activation.y.rows(0, taken)),
            values(op.rows.last.c.rows(0, taken)),
            values(op.rows.activation.d_scale),
            values(op.down.c),
            values(op.gate_up.c),
            download_doubles(*gpu_->device, squares_)[0]};
  }

  View saved_, squares_;
};

TEST_F(CudaExpertsBackward, OnGatheredRowsHasTheBitsOfTheOperationsInTurn) {
  std::vector<int32_t> even;
  for (int e = 0; e < 24; ++e) even.push_back(1100 + 13 * (e * 7 % 11));
  even[3] = 0, even[4] = 1, even[17] = 127, even[18] = 128, even[23] = 129;
  const std::vector<int32_t> uneven{3000, 0, 1, 127, 128, 129, 255, 257, 5000, 256, 255, 1, 2560};
  for (const auto& loads : {even, uneven}) {
    int64_t taken = 0;
    for (const int32_t count : loads) taken += count;
    for (const Case& c : {Case{432, 200, false, 0}, Case{352, 256, true, 3}, Case{864, 136, false, 3},
                          Case{504, 128, true, 0}, Case{8, 640, false, 0}}) {
      SCOPED_TRACE(fmt::format("{} experts, width {}, hidden {}, accumulate={}, {} processors", loads.size(), c.width,
                               c.hidden, c.accumulate, c.processors));
      force_cuda_processors(c.processors);
      const ExpertsBackward op = layer(loads, c);
      if (dynamic_cast<cuda::CudaDevice&>(*gpu_->device).properties().major == 9) {
        EXPECT_TRUE(gpu_->backend->gathers(op));
      }
      const Results expected = results(op, taken, [&] {
        gpu_->backend->run(op.rows);
        gpu_->backend->run(op.down);
        gpu_->backend->run(op.gate_up);
      });
      const Results found = results(op, taken, [&] { gpu_->backend->run(op); });
      EXPECT_TRUE(found.d_gate_up == expected.d_gate_up) << "d_gate_up";
      EXPECT_TRUE(found.activated == expected.activated) << "activated";
      EXPECT_TRUE(found.d_rows == expected.d_rows) << "d_rows";
      EXPECT_TRUE(found.d_scale == expected.d_scale) << "d_scale";
      EXPECT_TRUE(found.d_down == expected.d_down) << "d_down";
      EXPECT_TRUE(found.d_first == expected.d_first) << "d_gate_up of the weights";
      double squares = 3;
      for (const auto* gradient : {&expected.d_down, &expected.d_first}) {
        for (const float value : *gradient) squares += static_cast<double>(value) * static_cast<double>(value);
      }
      EXPECT_NEAR(found.squares / squares, 1, 1e-6);
      EXPECT_NEAR(expected.squares / squares, 1, 1e-6);
    }
  }
}

TEST_F(CudaExpertsBackward, OfFewRowsGathersNothing) {
  EXPECT_FALSE(gpu_->backend->gathers(layer({400, 500}, {64, 64, false, 0})));
  force_cuda_path(CudaPath::tensor);
  EXPECT_FALSE(gpu_->backend->gathers(layer({4000, 5000}, {64, 64, false, 0})));
}

}  // namespace
}  // namespace moe
