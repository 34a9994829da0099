#include "ops/dense.h"

#include "ops/checks.h"
#include "ops/exact_count.h"

namespace moe {

void check(const Gemm& op) {
  Checker c(op);
  c.data(op.a, op.transpose_a ? "K M" : "M K").weight(op.b, op.transpose_b ? "N K" : "K N").data(op.c, "M N");
}

void check(const GroupedGemm& op) {
  Checker c(op);
  c.weight(op.b, op.transpose_b ? "E N K" : "E K N").data(op.c, "R N").i32(op.a_rows, "R");
  c.data(op.a, op.a_rows ? "A K" : "R K");
  c.define("E+1", c.size("E") + 1, "E").i32(op.offsets, "E+1");
}

void check(const GroupedGemmReduce& op) {
  Checker c(op);
  c.i32(op.a_rows, "R").i32(op.b_rows, "R").data(op.c, "E M N");
  c.data(op.a, op.a_rows ? "A M" : "R M").data(op.b, op.b_rows ? "B N" : "R N");
  c.define("E+1", c.size("E") + 1, "E").i32(op.offsets, "E+1");
  c.f64(op.squares, "1");
  if (op.squares) c.any_stat(op.c);
}

int64_t flops(const Gemm& op) {
  return exact_count(2 * static_cast<double>(op.c.elements()) * static_cast<double>(op.a.size(op.transpose_a ? 0 : 1)));
}

int64_t flops(const GroupedGemm& op) {
  return exact_count(2 * static_cast<double>(op.c.elements()) * static_cast<double>(op.a.size(1)));
}

int64_t flops(const GroupedGemmReduce& op) {
  const int64_t rows = op.a_rows ? op.a_rows.size(0) : op.a.size(0);
  return exact_count(2 * static_cast<double>(rows) * static_cast<double>(op.a.size(1)) *
                     static_cast<double>(op.b.size(1)));
}

}  // namespace moe
