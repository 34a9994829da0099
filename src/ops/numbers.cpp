#include "ops/numbers.h"

#include "ops/checks.h"

namespace moe {

void check(const Fill& op) {
  Checker c(op);
  c.contiguous(op.x);
}

void check(const Cast& op) {
  Checker c(op);
  const auto is_data = [&](const View& view, const char* argument) {
    c.require(kDataTypes.has(view.dtype), "{} is {} {}, expected f32, bf16 or f64", argument, name(view.dtype),
              view.shape.text());
  };
  is_data(op.x, "x");
  is_data(op.y, "y");
  c.contiguous(op.x).contiguous(op.y).as_many(op.y, op.x);
}

void check(const SumSquares& op) {
  Checker c(op);
  c.any_stat(op.x).f64(op.sum, "1");
}

void check(const ClipScale& op) {
  Checker c(op);
  c.f64(op.sum_squares, "1").stat(op.norm, "1").stat(op.scale, "1");
  c.require(op.max_norm >= 0, "max_norm is {}, expected at least 0", op.max_norm);
}

void check(const Blend& op) {
  Checker c(op);
  c.any_data(op.x).any_data(op.y).as_many(op.y, op.x).stat(op.x_scale, "1").stat(op.guard, "1");
}

void check(const UnitMatrices& op) {
  Checker c(op);
  c.stat(op.x, "M R C").data(op.y, "M R C").contiguous(op.x).contiguous(op.y);
  c.require(op.eps > 0, "eps is {}, expected more than 0", op.eps);
}

void check(const AdamW& op) {
  Checker c(op);
  c.any_data(op.param).any_stat(op.master).any_stat(op.gradient).any_stat(op.exp_avg).any_stat(op.exp_avg_sq);
  c.as_many(op.master, op.param).as_many(op.gradient, op.param);
  c.as_many(op.exp_avg, op.param).as_many(op.exp_avg_sq, op.param).stat(op.gradient_scale, "1");
  c.require(op.param.dtype == stat_dtype(op.param.dtype) || op.master,
            "master is absent, expected one because param is {}", name(op.param.dtype));
  c.require(op.step >= 1, "step is {}, expected at least 1", op.step);
  c.require(op.beta1 >= 0 && op.beta1 < 1, "beta1 is {}, expected 0 <= beta1 < 1", op.beta1);
  c.require(op.beta2 >= 0 && op.beta2 < 1, "beta2 is {}, expected 0 <= beta2 < 1", op.beta2);
}

}  // namespace moe
