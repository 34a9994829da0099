// Rows that go through an expert's operations together have the bits of one operation after the other.

#include "ops/adapted_product.h"
#include "tests/backend/cpu/tensors.h"

namespace moe::test {
namespace {

constexpr int64_t kHidden = 70, kWidth = 41, kTokens = 97;

/// Rows of each expert, and rows at the end that belong to nobody.
struct Loads {
  const char* name;
  std::vector<int32_t> rows;
  int64_t unused;
};

// Enough rows to be cut into chunks, some experts into several, whatever the threads below; and so few that they are
// not (decoding).
const Loads kLoads[] = {
    {"many rows", {300, 0, 1, 129, 2500, 128, 513, 7, 300, 300, 0, 255, 301, 300, 300, 260, 1100}, 37},
    {"one expert", {0, 9000, 0}, 0},
    {"few rows", {1, 0, 3, 1, 0}, 2},
    {"no rows", {0, 0}, 3}};

/// An expert layer's tensors; what is written to is NaN, so that what must be left alone shows.
struct Experts {
  Experts(Tensors& t, DType type, const Loads& loads) {
    std::vector<int32_t> offsets{0};
    for (const int32_t rows : loads.rows) offsets.push_back(offsets.back() + rows);
    const auto experts = static_cast<int64_t>(loads.rows.size());
    const int64_t rows = offsets.back() + loads.unused;
    std::vector<int32_t> tokens, slots;
    for (int64_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<int32_t>((r * 31 + 5) % kTokens));
      slots.push_back(static_cast<int32_t>(rows - 1 - r));
    }
    const View row_token = t.indices(tokens), row_slot = t.indices(slots), all_offsets = t.indices(offsets);
    const View up = t.normal(type, {experts, 2 * kWidth, kHidden}), down = t.normal(type, {experts, kHidden, kWidth});
    const View x = t.normal(type, {kTokens, kHidden}), gates = t.normal(DType::f32, {rows});
    const View count = all_offsets.rows(experts, 1);
    const View gate_up = t.nan(type, {rows, 2 * kWidth}), y = t.nan(type, {rows, kWidth});
    forward = {
        .first = {.a = x, .a_rows = row_token, .offsets = all_offsets, .b = up, .c = gate_up, .transpose_b = true},
        .activation = {.gate_up = gate_up, .scale = gates, .scale_index = row_slot, .row_count = count, .y = y},
        .last = {.a = y, .offsets = all_offsets, .b = down, .c = t.nan(type, {rows, kHidden}), .transpose_b = true}};
    const View saved = t.normal(type, {rows, 2 * kWidth}), dy = t.nan(type, {rows, kWidth});
    backward = {.first = {.a = x, .a_rows = row_token, .offsets = all_offsets, .b = down, .c = dy},
                .activation = {.gate_up = saved,
                               .scale = gates,
                               .scale_index = row_slot,
                               .row_count = count,
                               .dy = dy,
                               .d_gate_up = saved,
                               .y = dy,
                               .d_scale = t.nan(DType::f32, {rows})},
                .last = {.a = saved, .offsets = all_offsets, .b = up, .c = t.nan(type, {rows, kHidden})}};
  }

  ExpertRows<SwiGlu> forward;
  ExpertRows<SwiGluBackward> backward;
};

template <class Activation>
void run_in_turn(Cpu& cpu, const ExpertRows<Activation>& rows) {
  cpu.run(rows.first);
  cpu.run(rows.activation);
  cpu.run(rows.last);
}

TEST(ExpertRows, HaveTheBitsOfOneOperationAfterTheOther) {
  for (const Isa isa : available_isas()) {
    for (const int threads : {1, 2, 3}) {
      Cpu cpu(threads, isa);
      for (const DType type : {DType::f32, DType::bf16}) {
        for (const Loads& loads : kLoads) {
          const std::string what = fmt::format("{}, {} threads, {}, {}", name(isa), threads, name(type), loads.name);
          Tensors a, b;
          const Experts expected(a, type, loads), found(b, type, loads);
          run_in_turn(cpu, expected.forward);
          cpu.run(found.forward);
          expect_same_bits(found.forward.first.c, expected.forward.first.c, what + ": gate_up");
          expect_same_bits(found.forward.activation.y, expected.forward.activation.y, what + ": activated");
          expect_same_bits(found.forward.last.c, expected.forward.last.c, what + ": rows");
          run_in_turn(cpu, expected.backward);
          cpu.run(found.backward);
          expect_same_bits(found.backward.last.a, expected.backward.last.a, what + ": d_gate_up");
          expect_same_bits(found.backward.activation.y, expected.backward.activation.y, what + ": activated again");
          const View d_scale = found.backward.activation.d_scale, d_expected = expected.backward.activation.d_scale;
          expect_same_bits(d_scale, d_expected, what + ": d_scale");
          expect_same_bits(found.backward.last.c, expected.backward.last.c, what + ": d_rows");
        }
      }
    }
  }
}

/// Adapters of two slices of 30 and 52 columns, rank 3, with the products written out for each slice; and of a backward
/// product.
TEST(AdaptedProducts, AreTheirProductsInTurn) {
  Cpu cpu(2);
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Loads& loads : kLoads) {
      const std::string what = fmt::format("{}, {}", name(type), loads.name);
      Tensors a, b;
      const Experts expected(a, type, loads), found(b, type, loads);
      const GroupedGemm &first = expected.forward.first, &last = expected.backward.last;
      const int64_t rows = first.c.size(0), experts = first.b.size(0);
      for (const bool forward : {true, false}) {
        const View low = a.normal(type, {rows, 6});
        const View change = a.normal(type, forward ? Shape{experts, 2 * kWidth, 3} : Shape{experts, 6, kHidden});
        AdaptedProduct op{.product = forward ? found.forward.first : found.backward.last, .low = low, .b = change};
        if (forward) op.slices = {30, 52, 0}, op.activation = found.forward.activation;
        run(*cpu.backend, op);
        const GroupedGemm& product = forward ? first : last;
        cpu.run(product);
        for (int64_t slice = 0; slice < (forward ? 2 : 1); ++slice) {
          const int64_t begin = slice * 30, count = slice == 0 ? 30 : 52;
          for (int64_t e = 0; e < experts; ++e) {
            const int32_t from = product.offsets.as<int32_t>()[e], end = product.offsets.as<int32_t>()[e + 1];
            if (from == end) continue;
            const View some = product.c.rows(from, end - from), part = low.rows(from, end - from);
            cpu.run(Gemm{.a = forward ? part.columns(slice * 3, 3) : part,
                         .b = forward ? change.at(e).rows(begin, count) : change.at(e),
                         .c = forward ? some.columns(begin, count) : some,
                         .transpose_b = forward,
                         .accumulate = true});
          }
        }
        if (forward) cpu.run(expected.forward.activation);
        expect_same_bits(op.product.c, product.c, what);
        if (forward) expect_same_bits(found.forward.activation.y, expected.forward.activation.y, what);
      }
    }
  }
}

/// The CPU with the other way through the backward pass of experts.
class Gathering final : public EachOp<Gathering> {
 public:
  explicit Gathering(Backend& inner) : inner_(inner) {}
  template <class Op>
  void on(const Op& op) {
    gathered_ += std::is_same_v<Op, RowsGather> ? 1 : 0;
    inner_.execute(op);
  }
  bool gathers(const ExpertsBackward&) const override { return true; }
  int gathered() const { return gathered_; }

 private:
  Backend& inner_;
  int gathered_ = 0;
};

/// The backward pass of experts whose rows are those of kTokens tokens in turn.
struct WholeBackward {
  WholeBackward(Tensors& t, DType type, const Loads& loads) {
    std::vector<int32_t> offsets{0};
    for (const int32_t rows : loads.rows) offsets.push_back(offsets.back() + rows);
    const auto experts = static_cast<int64_t>(loads.rows.size());
    taken = offsets.back();
    const int64_t rows = taken + loads.unused, slots = rows / kTokens + 1;
    std::vector<int32_t> tokens, row_slots, slot_rows(static_cast<size_t>(kTokens * slots), -1);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = r * 31 % kTokens, slot = token * slots + r / kTokens;
      tokens.push_back(static_cast<int32_t>(token));
      row_slots.push_back(static_cast<int32_t>(slot));
      if (r < taken) slot_rows[static_cast<size_t>(slot)] = static_cast<int32_t>(r);
    }
    const View all_offsets = t.indices(offsets), row_token = t.indices(tokens);
    const View x = t.normal(type, {kTokens, kHidden}), dy = t.normal(type, {kTokens, kHidden});
    const View gate_up = t.normal(type, {rows, 2 * kWidth}), activated = t.nan(type, {rows, kWidth});
    squares = t.filled(DType::f64, {1}, 0);
    op = {.rows = {.first = {.a = dy,
                             .a_rows = row_token,
                             .offsets = all_offsets,
                             .b = t.normal(type, {experts, kHidden, kWidth}),
                             .c = activated},
                   .activation = {.gate_up = gate_up,
                                  .scale = t.normal(DType::f32, {kTokens * slots}),
                                  .scale_index = t.indices(row_slots),
                                  .row_count = all_offsets.rows(experts, 1),
                                  .dy = activated,
                                  .d_gate_up = gate_up,
                                  .y = activated,
                                  .d_scale = t.nan(DType::f32, {kTokens * slots})},
                   .last = {.a = gate_up,
                            .offsets = all_offsets,
                            .b = t.normal(type, {experts, 2 * kWidth, kHidden}),
                            .c = t.nan(type, {rows, kHidden})}},
          .down = {.a = dy,
                   .a_rows = row_token,
                   .b = activated,
                   .offsets = all_offsets,
                   .c = t.nan(DType::f32, {experts, kHidden, kWidth}),
                   .squares = squares},
          .gate_up = {.a = gate_up,
                      .b = x,
                      .b_rows = row_token,
                      .offsets = all_offsets,
                      .c = t.nan(DType::f32, {experts, 2 * kWidth, kHidden}),
                      .squares = squares},
          .slot_row = t.indices(slot_rows).reshaped({kTokens, slots})};
  }

  ExpertsBackward op;
  View squares;
  int64_t taken;
};

TEST(ExpertsBackward, HasTheSameBitsOnGatheredRows) {
  Cpu cpu(2);
  Gathering gathering(*cpu.backend);
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Loads& loads : kLoads) {
      const std::string what = fmt::format("{}, {}", name(type), loads.name);
      Tensors a, b;
      const WholeBackward expected(a, type, loads), found(b, type, loads);
      cpu.run(expected.op);
      gathering.run(found.op);
      const auto same = [&](const View& x, const View& y, const char* which) {
        expect_same_bits(x, y, what + ": " + which);
      };
      const auto taken = [&](const View& view) { return view.rows(0, expected.taken); };
      same(taken(found.op.rows.last.c), taken(expected.op.rows.last.c), "d_rows");
      same(taken(found.op.gate_up.a), taken(expected.op.gate_up.a), "d_gate_up");
      same(found.op.rows.activation.d_scale, expected.op.rows.activation.d_scale, "d_scale");
      same(found.op.down.c, expected.op.down.c, "of down");
      same(found.op.gate_up.c, expected.op.gate_up.c, "of gate_up");
      EXPECT_EQ(*found.squares.as<double>(), *expected.squares.as<double>()) << what;
    }
  }
  EXPECT_EQ(gathering.gathered(), 2 * 2 * static_cast<int>(std::size(kLoads)));
}

}  // namespace
}  // namespace moe::test
