#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {

void compute(const Gemm& op) {
  const Reals a = read(op.a), b = read(op.b);
  Reals c = read(op.c);
  const int64_t depth = op.a.size(op.transpose_a ? 0 : 1);
  for (int64_t m = 0; m < c.size(0); ++m) {
    for (int64_t n = 0; n < c.size(1); ++n) {
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) {
        sum += (op.transpose_a ? a(k, m) : a(m, k)) * (op.transpose_b ? b(n, k) : b(k, n));
      }
      c(m, n) = op.accumulate ? c(m, n) + sum : sum;
    }
  }
  write(op.c, c);
}

void compute(const GroupedGemm& op) {
  const Reals a = read(op.a), b = read(op.b);
  const Indices a_rows = read_indices(op.a_rows), offsets = read_indices(op.offsets);
  Reals c = read(op.c);
  for (int64_t e = 0; e < b.size(0); ++e) {
    for (int64_t r = offsets(e); r < offsets(e + 1); ++r) {
      const int64_t row = op.a_rows ? a_rows(r) : r;
      for (int64_t n = 0; n < c.size(1); ++n) {
        double sum = 0;
        for (int64_t k = 0; k < a.size(1); ++k) sum += a(row, k) * (op.transpose_b ? b(e, n, k) : b(e, k, n));
        c(r, n) = op.accumulate ? c(r, n) + sum : sum;
      }
    }
  }
  write(op.c, c);
}

void compute(const GroupedGemmReduce& op) {
  const Reals a = read(op.a), b = read(op.b);
  const Indices a_rows = read_indices(op.a_rows), b_rows = read_indices(op.b_rows), offsets = read_indices(op.offsets);
  Reals c = op.accumulate ? read(op.c) : Reals(op.c.shape);
  for (int64_t e = 0; e < c.size(0); ++e) {
    for (int64_t r = offsets(e); r < offsets(e + 1); ++r) {
      const int64_t a_row = op.a_rows ? a_rows(r) : r;
      const int64_t b_row = op.b_rows ? b_rows(r) : r;
      for (int64_t m = 0; m < c.size(1); ++m) {
        for (int64_t n = 0; n < c.size(2); ++n) c(e, m, n) += a(a_row, m) * b(b_row, n);
      }
    }
  }
  write(op.c, c);
  if (!op.squares) return;
  Reals squares = read(op.squares);
  for (const double value : read(op.c).values()) squares(0) += value * value;
  write(op.squares, squares);
}

}  // namespace moe::oracle
