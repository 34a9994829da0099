#include "ops/next_token.h"

#include "ops/checks.h"

namespace moe {

void check(const NextToken& op) {
  Checker c(op);
  c.define("W", kDrawWords, "the words of a draw");
  c.stat(op.logits, "T V").i32(op.allowed, "V").i32(op.draws, "T W").i32(op.counts, "S V").i32(op.sequence, "T");
  c.i32(op.ids, "T").i32(op.positions, "T").i32(op.chosen, "T");
  c.require(c.size("T") > 0, "there are no rows, expected at least one");
  c.require(!op.counts || op.draws, "there are counts without draws, which say the penalties");
  c.require(!op.counts || op.sequence || op.counts.size(0) >= c.size("T"),
            "there are counts of {} sequences, expected at least {}, one for each row",
            op.counts ? op.counts.size(0) : 0, c.size("T"));
}

int64_t traffic_bytes(const NextToken& op) {
  int64_t bytes = 0;
  for_each_view(op, [&](const Field<NextToken>& field, const View& view) {
    if (field.view != &NextToken::counts) bytes += static_cast<int64_t>(view.bytes());
  });
  return bytes + (op.counts ? static_cast<int64_t>(op.logits.elements() * sizeof(int32_t)) : 0);
}

}  // namespace moe
