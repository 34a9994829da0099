#include "ops/dropout.h"

#include "ops/checks.h"

namespace moe {

void check(const Dropout& op) {
  Checker c(op);
  c.data(op.x, "T D").data(op.y, "T D").i32(op.keys, "T").i32(op.row_count, "1");
  c.require(op.probability >= 0 && op.probability < 1, "probability is {}, expected at least 0 and less than 1",
            op.probability);
}

}  // namespace moe
