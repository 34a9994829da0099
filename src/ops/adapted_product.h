#pragma once
/// The product of experts' weights and what low-rank adapters add to it (nn/adapter.h) as one fused operation.

#include <array>
#include <vector>

#include "ops/backend.h"

namespace moe {

/// A grouped product, what adapters add to it, and then, if it is given, the activation of the sum.
///   with product.transpose_b:  c[:, slice s] += low[:, part s] b[rows of slice s]^T, for each slice of c's columns
///   without:                   c += low b
/// A backend may add before it rounds c, and not after: c then has one rounding instead of two.
struct AdaptedProduct {
  GroupedGemm product;
  View low;                            ///< [R, S r]: parts of r columns, one for each of S slices
  View b;                              ///< [E, N, r], the slices' rows one below the other; or [E, S r, N]
  std::array<int64_t, 3> slices = {};  ///< columns of c in each slice; 0: there is no further one
  SwiGlu activation = {};              ///< of rows of c, its gate_up; without a gate_up there is none

  static constexpr const char* name = "adapted_product";
  int64_t slice_count() const;
  /// The products that are added to c, in order.
  std::vector<GroupedGemm> changes() const;
};

/// A second base of backends that execute it as one. Use it as the backend: on one thread at a time.
class AddsInProducts {
 public:
  virtual ~AddsInProducts() = default;
  virtual void execute(const AdaptedProduct& op) = 0;
};

/// Checks the parts, and that they fit together.
void check(const AdaptedProduct& op);
/// Executes the parts, one after the other.
void execute_in_turn(Backend& backend, const AdaptedProduct& op);
/// Checks the operation and executes it, as one where the backend can.
void run(Backend& backend, const AdaptedProduct& op);

int64_t flops(const AdaptedProduct& op);
/// c is written once, and the activation does not read it again.
int64_t traffic_bytes(const AdaptedProduct& op);

}  // namespace moe
