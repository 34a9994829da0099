#include "ops/next_token.h"

#include "ops/checks.h"

namespace moe {

void check(const NextToken& op) {
  Checker c(op);
  c.stat(op.logits, "T V").i32(op.allowed, "V").i32(op.ids, "T").i32(op.positions, "T").i32(op.log, "N T");
  c.i32(op.steps, "T").require(c.size("T") > 0, "there are no rows, expected at least one");
}

}  // namespace moe
