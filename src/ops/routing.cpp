#include "ops/routing.h"

#include "ops/checks.h"
#include "ops/exact_count.h"

namespace moe {
namespace {

void check_choices(Checker& c) {
  c.require(c.size("K") <= c.size("E"), "K is {} choices of {} experts, expected at most E distinct ones", c.size("K"),
            c.size("E"));
}

}  // namespace

const char* name(Scoring scoring) {
  switch (scoring) {
    case Scoring::softmax:
      return "softmax";
    case Scoring::sigmoid:
      return "sigmoid";
    case Scoring::none:
      return "none";
  }
  return "?";
}

void check(const RouterScores& op) {
  Checker c(op);
  c.data(op.x, "T D").weight(op.weight, "E D").stat(op.scores, "T E").stat(op.log_sum, "T");
  c.require(c.size("E") > 0, "weight is {} {}, expected at least one expert", name(op.weight.dtype),
            op.weight.shape.text());
  c.require(!op.log_sum || op.scoring == Scoring::softmax, "log_sum is asked for, which only a softmax has");
}

void check(const RouterTopk& op) {
  Checker c(op);
  c.stat(op.scores, "T E").stat(op.bias, "E").i32(op.group, "T").i32(op.ids, "T K");
  check_choices(c);
  const auto& [groups, used, best] = op.limit;
  c.require(groups > 0 && groups <= 32 && c.size("E") % groups == 0,
            "limit.groups is {}, expected a divisor of {} experts up to 32", groups, c.size("E"));
  c.require(used > 0 && used <= groups, "limit.used is {}, expected 1 to {}, the number of groups", used, groups);
  c.require(best > 0 && best <= c.size("E") / groups, "limit.best is {}, expected 1 to {}, the experts of a group",
            best, c.size("E") / groups);
  c.require(op.skip >= 0 && op.skip + c.size("K") <= c.size("E") / groups * used,
            "skip is {} beside K = {} choices of {} experts, expected them to be at most as many together", op.skip,
            c.size("K"), c.size("E") / groups * used);
}

void check(const RouterGates& op) {
  Checker c(op);
  c.i32(op.ids, "T K").stat(op.gates, "T K").stat(op.scores, "T E");
  c.require(op.scores || op.form == GateForm::one, "scores is absent, which only gates of 1 do without");
}

void check(const RoutePlan& op) {
  Checker c(op);
  c.i32(op.ids, "T K").i32(op.slot_row, "T K").i32(op.offsets, "E+1");
  c.require(c.size("E+1") > 1, "offsets is i32 {}, expected one size more than the number of experts",
            op.offsets.shape.text());
  c.require(op.first >= 0, "first is {}, expected at least 0", op.first);
  c.i32(op.row_slot, "R").i32(op.row_token, "R");
  const int64_t slots = c.size("T") * c.size("K");
  c.require(c.size("R") <= slots, "row_slot has {} rows, expected at most {}, the slots of ids", c.size("R"), slots);
  c.require(slots <= INT32_MAX, "ids is i32 {}, expected fewer than 2^31 slots", op.ids.shape.text());
}

void check(const RouteTokens& op) {
  check(op.scores);
  check(op.choice);
  check(op.gates);
  check(op.plan);
  const auto require = [](const char* what, const View& a, const View& b) {
    if (!same_view(a, b)) fail("route_tokens: {} are not those of the operation before", what);
  };
  require("the scores of the choice", op.choice.scores, op.scores.scores);
  require("the scores of the gates", op.gates.scores, op.scores.scores);
  require("the ids of the gates", op.gates.ids, op.choice.ids);
  require("the ids of the plan", op.plan.ids, op.choice.ids);
}

void check(const RowsCombine& op) {
  Checker c(op);
  c.i32(op.slot_row, "T K").data(op.y, "T D").data(op.residual, "T D").data(op.rows, "R D");
}

void check(const RowsGather& op) {
  Checker c(op);
  c.i32(op.slot_row, "T K").data(op.x, "T D").data(op.rows, "R D");
  c.require(op.rows.dtype == op.x.dtype, "rows is {}, expected the type of x, {}", name(op.rows.dtype),
            name(op.x.dtype));
}

void check(const RouterBackward& op) {
  Checker c(op);
  c.stat(op.scores, "T E").i32(op.ids, "T K").i32(op.kept, "T K").stat(op.d_gates, "T K").i32(op.group, "T");
  c.stat(op.coefficients, "G E").stat(op.gate_coefficients, "G E").stat(op.d_logits, "T E");
  c.stat(op.log_sum, "T").stat(op.inv_tokens, "1").together(op.log_sum, op.inv_tokens);
  check_choices(c);
}

int64_t flops(const RouterScores& op) {
  return exact_count(2 * static_cast<double>(op.scores.elements()) * static_cast<double>(op.x.size(1)));
}

}  // namespace moe
