#include "ops/routing.h"

#include "ops/checks.h"

namespace moe {
namespace {

void check_choices(Checker& c) {
  c.require(c.size("K") <= c.size("E"), "K is {} choices of {} experts, expected at most E distinct ones", c.size("K"),
            c.size("E"));
}

}  // namespace

void check(const RouterScores& op) {
  Checker c(op);
  c.data(op.x, "T D").data(op.weight, "E D").stat(op.scores, "T E");
  c.require(c.size("E") > 0, "weight is {} {}, expected at least one expert", name(op.weight.dtype),
            op.weight.shape.text());
}

void check(const RouterTopk& op) {
  Checker c(op);
  c.stat(op.scores, "T E").stat(op.bias, "E").i32(op.group, "T").i32(op.ids, "T K").stat(op.gates, "T K");
  check_choices(c);
  c.require(op.skip >= 0 && op.skip + c.size("K") <= c.size("E"),
            "skip is {} beside K = {} choices of {} experts, expected them to be at most E together", op.skip,
            c.size("K"), c.size("E"));
}

void check(const RoutePlan& op) {
  Checker c(op);
  c.i32(op.ids, "T K").i32(op.slot_row, "T K").i32(op.offsets, "E+1");
  c.require(c.size("E+1") > 1, "offsets is i32 {}, expected one size more than the number of experts",
            op.offsets.shape.text());
  c.define("T*K", c.size("T") * c.size("K"), "T").i32(op.row_slot, "T*K").i32(op.row_token, "T*K");
  c.require(c.size("T*K") <= INT32_MAX, "ids is i32 {}, expected fewer than 2^31 slots", op.ids.shape.text());
}

void check(const RowsCombine& op) {
  Checker c(op);
  c.i32(op.slot_row, "T K").data(op.y, "T D").data(op.residual, "T D").data(op.rows, "R D");
}

void check(const RouterCounts& op) {
  Checker c(op);
  c.i32(op.ids, "T K").i32(op.group, "T").i32(op.counts, "G E");
}

void check(const BalanceCoefficients& op) {
  Checker c(op);
  c.i32(op.counts, "G E").i32(op.group_tokens, "G").stat(op.inv_tokens, "1").stat(op.coefficients, "G E");
  c.require(op.top_k > 0 && op.top_k <= c.size("E"), "top_k is {}, expected 1 to {}, the number of experts", op.top_k,
            c.size("E"));
  c.require(op.devices > 0 && c.size("E") % op.devices == 0, "devices is {}, expected a divisor of {} experts",
            op.devices, c.size("E"));
}

void check(const BalanceLoss& op) {
  Checker c(op);
  c.stat(op.scores, "T E").i32(op.group, "T").stat(op.coefficients, "G E").stat(op.loss, "1");
}

void check(const RouterBackward& op) {
  Checker c(op);
  c.stat(op.scores, "T E").i32(op.ids, "T K").stat(op.d_gates, "T K").i32(op.group, "T");
  c.stat(op.coefficients, "G E").stat(op.d_logits, "T E");
  check_choices(c);
}

int64_t flops(const RouterScores& op) { return 2 * op.scores.elements() * op.x.size(1); }

}  // namespace moe
