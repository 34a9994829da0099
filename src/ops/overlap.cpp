#include "ops/overlap.h"

namespace moe {

void run(Backend& backend, const RotatedAppend& op) {
  check(op);
  if (auto* const overlap = dynamic_cast<Overlap*>(&backend)) return overlap->execute(op);
  backend.execute(op.rope);
  backend.execute(op.append);
}

}  // namespace moe
