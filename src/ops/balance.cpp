#include "ops/balance.h"

#include "ops/checks.h"

namespace moe {
namespace {

void check_columns(Checker& c, int64_t experts) {
  c.require(c.size("C") > 0 && experts % c.size("C") == 0, "counts has {} columns, expected a divisor of {} experts",
            c.size("C"), experts);
}

}  // namespace

void check(const RouterCounts& op) {
  Checker c(op);
  c.i32(op.ids, "T K").i32(op.group, "T").i32(op.counts, "G C");
  check_columns(c, op.experts);
}

void check(const BalanceCoefficients& op) {
  Checker c(op);
  c.i32(op.counts, "G C").i32(op.group_tokens, "G").stat(op.inv_tokens, "1").stat(op.coefficients, "G E");
  check_columns(c, c.size("E"));
  c.require(op.top_k > 0 && op.top_k <= c.size("C"), "top_k is {}, expected 1 to {}, the number of columns", op.top_k,
            c.size("C"));
  c.require(op.devices > 0 && c.size("C") % op.devices == 0, "devices is {}, expected a divisor of {} columns",
            op.devices, c.size("C"));
}

void check(const BalanceLoss& op) {
  Checker c(op);
  c.stat(op.scores, "T E").i32(op.group, "T").stat(op.coefficients, "G E").stat(op.loss, "1");
}

void check(const GateLoss& op) {
  Checker c(op);
  c.stat(op.gates, "T K").i32(op.ids, "T K").i32(op.group, "T").stat(op.coefficients, "G E").stat(op.loss, "1");
}

void check(const RouterZLoss& op) {
  Checker c(op);
  c.stat(op.log_sum, "T").i32(op.group, "T").stat(op.inv_tokens, "1").stat(op.loss, "1");
}

void check(const ExpertSums& op) {
  Checker c(op);
  c.stat(op.values, "T K").i32(op.ids, "T K").i32(op.group, "T").stat(op.sums, "G E");
  c.require(op.ids || c.size("K") == c.size("E"), "values has {} columns without ids, expected {}, one per expert",
            c.size("K"), c.size("E"));
}

void check(const VariationLoss& op) {
  Checker c(op);
  c.stat(op.sums, "G E").i32(op.group_tokens, "G").stat(op.inv_tokens, "1");
  c.stat(op.loss, "1").stat(op.coefficients, "G E");
  c.require(c.size("E") > 0, "sums is {}, expected at least one expert", op.sums.shape.text());
}

void check(const BiasUpdate& op) {
  Checker c(op);
  c.i32(op.counts, "E").stat(op.bias, "E");
}

}  // namespace moe
