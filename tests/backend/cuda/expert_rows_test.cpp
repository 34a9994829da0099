// Products of experts' rows that end in SwiGLU, against the operations in turn: the same bits.

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

}  // namespace
}  // namespace moe
