#pragma once
/// Operations that follow each other along the rows of experts. Row r of each reads nothing of the one before but its
/// row r, so a backend may take some rows through all three while they lie in its cache, instead of all rows through
/// each. That changes no bits and needs nothing new of a backend: without a way of its own it runs them in turn.

#include <type_traits>

#include "ops/dense.h"
#include "ops/rows.h"

namespace moe {

/// A grouped product, an operation on its rows, and a grouped product of the rows which that gives.
///   SwiGlu:          forward of a FFN,  last.a is activation.y        and activation.gate_up is first.c
///   SwiGluBackward:  to its input,      last.a is activation.d_gate_up and activation.dy is first.c
/// All three are of the same rows: equal offsets, and activation.row_count is their last one. last.a_rows is absent.
template <class Activation>
struct ExpertRows {
  GroupedGemm first;
  Activation activation;
  GroupedGemm last;

  static constexpr const char* name = std::is_same_v<Activation, SwiGlu> ? "expert_rows" : "expert_rows_backward";
};

/// The parts each, and that they belong together: what one writes overlaps nothing that another reads, except the rows
/// that they hand on.
void check(const ExpertRows<SwiGlu>& rows);
void check(const ExpertRows<SwiGluBackward>& rows);

/// Those of the parts.
template <class Activation>
int64_t flops(const ExpertRows<Activation>& rows) {
  return flops(rows.first) + flops(rows.last);
}
template <class Activation>
int64_t traffic_bytes(const ExpertRows<Activation>& rows) {
  return traffic_bytes(rows.first) + traffic_bytes(rows.activation) + traffic_bytes(rows.last);
}

}  // namespace moe
