#pragma once
/// The forward pass of a MoE layer with shared experts as one fused operation.

#include "ops/expert_rows.h"

namespace moe {

/// `norm` makes what routing and all experts read. `shared` and `shared_down` are the shared experts, whose result is
/// in shared_down.c; `combine` adds the others to it. The bits are those of all parts in turn. The shared experts and
/// the routing of the same tokens need nothing of each other, so a backend may run them beside each other.
struct RoutedFfn {
  RmsNorm norm;
  RouteTokens route;
  ActivatedProduct shared;
  Gemm shared_down;
  ExpertRows<SwiGlu> experts;
  RowsCombine combine;

  static constexpr const char* name = "routed_ffn";
};

/// Checks the parts, and that the shared experts and what is routed write nothing that the other reads or writes.
void check(const RoutedFfn& op);

}  // namespace moe
