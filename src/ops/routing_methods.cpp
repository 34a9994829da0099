#include "ops/routing_methods.h"

#include "ops/checks.h"

namespace moe {
namespace {

void check_rows(Checker& c, int64_t row_length) {
  c.require(row_length > 0 && c.size("T") % row_length == 0, "row_length is {}, expected a divisor of {} tokens",
            row_length, c.size("T"));
}

}  // namespace

void check(const RouterDrop& op) {
  Checker c(op);
  c.i32(op.ids, "T K").stat(op.gates, "T K").i32(op.group, "T").i32(op.kept, "T K").i32(op.dropped, "1");
  check_rows(c, op.row_length);
  c.require(op.threshold <= 0 || c.size("K") == 2, "K is {} with a threshold, expected the second of 2 choices to fall",
            c.size("K"));
  c.require(op.experts > 0 && op.factor >= 0 && op.factor < 1000 * kMillion,
            "factor is {} millionths, expected 0 or more, below 1000", op.factor);
}

void check(const RouterJitter& op) {
  Checker c(op);
  c.data(op.x, "T D").data(op.y, "T D");
}

void check(const RouterNoise& op) {
  Checker c(op);
  c.stat(op.clean, "T E").stat(op.raw, "T E").stat(op.noisy, "T E");
}

void check(const NoiseLoad& op) {
  Checker c(op);
  c.stat(op.clean, "T E").stat(op.raw, "T E").stat(op.noisy, "T E").stat(op.load, "T E");
  c.require(op.top_k > 0 && op.top_k < c.size("E"), "top_k is {}, expected 1 to {}, fewer than the experts", op.top_k,
            c.size("E") - 1);
}

void check(const NoiseBackward& op) {
  Checker c(op);
  c.stat(op.clean, "T E").stat(op.raw, "T E").stat(op.noisy, "T E").stat(op.d_noisy, "T E").i32(op.group, "T");
  c.stat(op.coefficients, "G E").stat(op.d_clean, "T E").stat(op.d_raw, "T E");
  c.require(!op.coefficients || (op.top_k > 0 && op.top_k < c.size("E")),
            "top_k is {}, expected 1 to {}, fewer than the experts", op.top_k, c.size("E") - 1);
}

void check(const TableRoute& op) {
  Checker c(op);
  c.i32(op.tokens, "T").i32(op.table, "V").i32(op.group, "T").i32(op.ids, "T 1");
}

void check(const ExpertChoice& op) {
  Checker c(op);
  c.stat(op.scores, "T E").i32(op.group, "T").i32(op.ids, "T E");
  check_rows(c, op.row_length);
  c.require(op.factor > 0 && op.factor < 1000 * kMillion, "factor is {} millionths, expected more than 0, below 1000",
            op.factor);
}

void check(const Distillation& op) {
  Checker c(op);
  c.stat(op.scores, "T E").i32(op.ids, "T 1").i32(op.group, "T").stat(op.inv_tokens, "1");
  c.stat(op.loss, "1").stat(op.d_logits, "T E");
}

}  // namespace moe
