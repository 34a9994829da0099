#include "ops/embedding_loss.h"

#include "ops/checks.h"

namespace moe {

void check(const Embed& op) {
  Checker c(op);
  c.i32(op.tokens, "T").weight(op.table, "V D").data(op.y, "T D");
}

void check(const EmbedBackward& op) {
  Checker c(op);
  c.i32(op.tokens, "T").data(op.dy, "T D").stat(op.d_table, "V D");
}

void check(const CrossEntropy& op) {
  Checker c(op);
  c.data(op.logits, "T V").i32(op.targets, "T").stat(op.gradient_scale, "1").data(op.d_logits, "T V");
  c.stat(op.weights, "T").stat(op.row_loss, "T").together(op.gradient_scale, op.d_logits);
  c.require(c.size("V") > 0 || c.size("T") == 0, "logits is {} {}, expected at least one column", name(op.logits.dtype),
            op.logits.shape.text());
}

}  // namespace moe
