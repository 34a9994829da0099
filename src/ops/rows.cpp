#include "ops/rows.h"

#include "ops/checks.h"

namespace moe {
namespace {

/// Checks for SwiGlu and its backward: y [T, F] decides the sizes.
template <class Op>
void check_swiglu(Checker& c, const Op& op) {
  c.define("2F", 2 * c.size("F"), "F").data(op.gate_up, "T 2F");
  c.stat(op.scale, "S").i32(op.scale_index, "T").together(op.scale, op.scale_index);
  c.i32(op.row_count, "1");
}

}  // namespace

void check(const RmsNorm& op) {
  Checker c(op);
  c.data(op.x, "T D").data(op.residual, "T D").data(op.sum, "T D").together(op.sum, op.residual);
  c.weight(op.gain, "D").data(op.y, "T D").stat(op.inv_rms, "T");
  c.require(op.eps >= 0, "eps is {}, expected at least 0", op.eps);
}

void check(const RmsNormBackward& op) {
  Checker c(op);
  c.data(op.x, "T D").data(op.dy, "T D").data(op.gain, "D").data(op.dx, "T D");
  c.stat(op.inv_rms, "T").stat(op.dgain, "D");
}

void check(const SwiGlu& op) {
  Checker c(op);
  c.data(op.y, "T F");
  check_swiglu(c, op);
}

void check(const SwiGluBackward& op) {
  Checker c(op);
  c.data(op.dy, "T F");
  check_swiglu(c, op);
  c.data(op.d_gate_up, "T 2F").data(op.y, "T F").stat(op.d_scale, "S").together(op.scale, op.d_scale);
}

void check(const RopeTable& op) {
  Checker c(op);
  c.i32(op.positions, "T").stat(op.table, "T h");
  c.require(c.size("h") % 2 == 0, "table is {} {}, expected an even head size", name(op.table.dtype),
            op.table.shape.text());
  c.require(op.theta > 0, "theta is {}, expected more than 0", op.theta);
}

void check(const Rope& op) {
  Checker c(op);
  c.data(op.x, "T heads*h").stat(op.table, "T h");
  const int64_t width = c.size("heads*h");
  const int64_t head = c.size("h");
  c.require(head > 0 && head % 2 == 0, "table is {} {}, expected an even head size", name(op.table.dtype),
            op.table.shape.text());
  c.require(width % head == 0, "x is {} {}, expected rows of whole heads of size {}", name(op.x.dtype),
            op.x.shape.text(), head);
}

void check(const Add& op) {
  Checker c(op);
  c.data(op.x, "T D").data(op.y, "T D");
}

}  // namespace moe
