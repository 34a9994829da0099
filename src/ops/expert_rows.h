#pragma once
/// An expert's FFN as one fused operation. Each operation's row r depends only on row r of the operation before. So a
/// backend may run all three operations on a block of rows that fits its cache, instead of all rows through each
/// operation. The bits are the same. The default runs the three one by one.

#include <type_traits>

#include "ops/dense.h"
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

/// Checks the parts, and that they fit together: what one part writes overlaps nothing that another part reads, except
/// the rows that it hands on.
void check(const ExpertRows<SwiGlu>& rows);
void check(const ExpertRows<SwiGluBackward>& rows);

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
