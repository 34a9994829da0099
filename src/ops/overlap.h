#pragma once
/// What a backend may offer beyond executing operations in turn. Results are those of the operations in turn, bit for
/// bit.

#include "ops/backend.h"
#include "ops/rotated_attention.h"
#include "ops/routed_ffn.h"

namespace moe {

/// A second base of backends that can do so. Use it on one thread at a time, like the backend.
class Overlap {
 public:
  virtual ~Overlap() = default;

  virtual void execute(const RotatedAttention& op) = 0;
  virtual void execute(const RoutedFfn& op) = 0;
};

/// Checks the operation and executes it, as one where the backend can.
void run(Backend& backend, const RotatedAttention& op);
void run(Backend& backend, const RoutedFfn& op);

/// The parts in turn: all, or those after the norm.
void run_in_turn(Backend& backend, const RoutedFfn& op);
void run_after_norm(Backend& backend, const RoutedFfn& op);

}  // namespace moe
