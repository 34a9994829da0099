#pragma once
/// An expert's FFN as one fused operation. Each operation's row r depends only on row r of the operation before. So a
/// backend may run all three operations on a block of rows that fits its cache, instead of all rows through each
/// operation. The bits are the same. The default runs the three one by one.

#include <type_traits>

#include "ops/dense.h"
#include "ops/routing.h"
#include "ops/rows.h"

namespace moe {

/// A grouped product, an operation on its rows, and a grouped product of the result.
///   SwiGlu:          forward of a FFN,  last.a is activation.y        and activation.gate_up is first.c
///   SwiGluBackward:  to its input,      last.a is activation.d_gate_up and activation.dy is first.c
/// All three work on the same rows: they have equal offsets, and activation.row_count is the last offset. last.a_rows
/// is absent.
template <class Activation>
struct ExpertRows {
  GroupedGemm first;
  Activation activation;
  GroupedGemm last;

  static constexpr const char* name = std::is_same_v<Activation, SwiGlu> ? "expert_rows" : "expert_rows_backward";
};

/// A product and the activation of its rows, as one fused operation: the beginning of a FFN that all rows share. It has
/// the bits of both in turn. activation.gate_up is product.c.
struct ActivatedProduct {
  Gemm product;
  SwiGlu activation;

  static constexpr const char* name = "activated_product";
};

/// The whole backward pass of a layer's experts: of their inputs, and of both weights. `down` reduces rows.first.a with
/// the activation again, activation.y, and `gate_up` reduces d_gate_up with the layer's input; one without a c is left
/// out. It may run in two ways, which give the same bits: `rows`, `down` and `gate_up` in turn, whose products pick the
/// tokens' rows; or the tokens are first copied to their rows, in the memory of rows.last.c, whose own product then
/// comes last (RowsGather).
struct ExpertsBackward {
  ExpertRows<SwiGluBackward> rows;
  GroupedGemmReduce down;
  GroupedGemmReduce gate_up;
  View slot_row;  ///< i32 [T, K]: the rows of each token (RoutePlan)

  static constexpr const char* name = "experts_backward";
};

/// Runs the operations of the second way, each by run(operation).
template <class Run>
void run_on_gathered_rows(const ExpertsBackward& op, Run run) {
  const View& room = op.rows.last.c;
  GroupedGemm first = op.rows.first;
  GroupedGemmReduce down = op.down, gate_up = op.gate_up;
  first.a = down.a = gate_up.b = room;
  first.a_rows = down.a_rows = gate_up.b_rows = View{};
  run(RowsGather{.x = op.down.a, .slot_row = op.slot_row, .rows = room});
  run(first);
  run(op.rows.activation);
  if (down.c) run(down);
  if (gate_up.c) {
    run(RowsGather{.x = op.gate_up.b, .slot_row = op.slot_row, .rows = room});
    run(gate_up);
  }
  run(op.rows.last);
}

/// Checks the parts, and that they fit together: what one part writes overlaps nothing that another part reads, except
/// the rows that it hands on.
void check(const ActivatedProduct& op);
void check(const ExpertRows<SwiGlu>& rows);
void check(const ExpertRows<SwiGluBackward>& rows);
void check(const ExpertsBackward& op);

/// The sum over the parts.
template <class Activation>
int64_t flops(const ExpertRows<Activation>& rows) {
  return flops(rows.first) + flops(rows.last);
}
template <class Activation>
int64_t traffic_bytes(const ExpertRows<Activation>& rows) {
  return traffic_bytes(rows.first) + traffic_bytes(rows.activation) + traffic_bytes(rows.last);
}

}  // namespace moe
