#include "ops/overlap.h"

namespace moe {

void run(Backend& backend, const RotatedAttention& op) {
  check(op);
  if (auto* const overlap = dynamic_cast<Overlap*>(&backend)) return overlap->execute(op);
  backend.execute(op.rope);
  backend.execute(op.append);
  backend.execute(op.attention);
}

void run(Backend& backend, const RoutedFfn& op) {
  check(op);
  if (auto* const overlap = dynamic_cast<Overlap*>(&backend)) return overlap->execute(op);
  run_in_turn(backend, op);
}

void run_in_turn(Backend& backend, const RoutedFfn& op) {
  backend.execute(op.norm);
  run_after_norm(backend, op);
}

void run_after_norm(Backend& backend, const RoutedFfn& op) {
  backend.execute(op.route);
  backend.execute(op.shared);
  backend.execute(op.shared_down);
  backend.execute(op.experts);
  backend.execute(op.combine);
}

}  // namespace moe
