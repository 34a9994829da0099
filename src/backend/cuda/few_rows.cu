#include "backend/cuda/block_rows.h"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/few_rows_kernel.cuh"
#include "backend/cuda/wide_rows.h"

namespace moe::cuda {
namespace {

using namespace few_rows;

// Above these, others are faster: the library, or tiles of many rows whose loads the copy engine makes. Weights in
// blocks must be widened for these others.
constexpr int64_t kMostRows = 2 * kTokens, kMostOutputs = 32768;
constexpr int64_t kMostSizeOfManyRows = 4096;  ///< outputs and reduced dimension, of more than kTokens rows
constexpr int64_t kMostRowsOfNarrow = 64;
constexpr int64_t kMostRowsOfAnExpert = 4, kMostRowsOfAnExpertInBlocks = 16;  ///< on average

/// What both kinds of product need: x in whole chunks of bf16, weights in lines, x W^T, and a path that may be any.
template <class Op>
bool supported(const Op& op) {
  const int64_t k = op.a.size(1);
  return may_use_library() && op.transpose_b && k > 0 && k < INT32_MAX && in_chunks(op.a) && in_lines(op.b) &&
         op.c.elements() > 0;
}

bool suits(const Gemm& op) {
  const int64_t rows = op.c.size(0), outputs = op.c.size(1);
  if (op.transpose_a || !supported(op)) return false;
  if (is_line_weight(op.b.dtype)) return rows <= kMostRows && outputs < INT32_MAX;
  if (outputs <= kNarrow && rows <= kMostRowsOfNarrow) return true;
  return outputs <= kMostOutputs &&
         (rows <= kTokens || (rows <= kMostRows && std::max(outputs, op.a.size(1)) <= kMostSizeOfManyRows));
}
bool suits(const GroupedGemm& op) {
  const int64_t most = is_line_weight(op.b.dtype) ? kMostRowsOfAnExpertInBlocks : kMostRowsOfAnExpert;
  return supported(op) && op.c.size(0) <= most * op.b.size(0) && op.b.size(0) <= kMostExperts &&
         op.b.size(1) < INT32_MAX / 2;
}

void start_any(const Context& context, const FewRows& p, DType weights, bool with_swiglu) {
  with_lines(weights, [&](auto type) { start<decltype(type)>(context, p, with_swiglu); });
}

template <class Op>
bool with_swiglu(Context& context, const Op& product, const SwiGlu& activation) {
  if (!suits(product)) return false;
  const std::optional<FewRows> p = problem_with_swiglu(context, product, activation);
  if (p) start_any(context, *p, product.b.dtype, true);
  return p.has_value();
}

}  // namespace

bool few_rows_product(Context& context, const Gemm& op) {
  if (!suits(op)) return wide_rows_product(context, op) || block_rows_product(context, op);
  start_any(context, problem(context, op), op.b.dtype, false);
  return true;
}

bool few_rows_product_of_norm(Context& context, const RmsNorm& norm, const Gemm& op) {
  const std::optional<Norm> task = norm_of_few::norm_of(norm);
  if (!task || !suits(op)) return false;
  const FewRows p = problem(context, op);
  with_lines(op.b.dtype, [&](auto type) { start_with_norm<decltype(type)>(context, p, *task); });
  return true;
}

bool suits_few_rows(const GroupedGemm& op) { return suits(op); }

bool few_rows_product(Context& context, const GroupedGemm& op) {
  if (!suits(op)) return block_rows_product(context, op);
  start_any(context, problem(context, op), op.b.dtype, false);
  return true;
}

bool product_and_swiglu(Context& context, const Gemm& product, const SwiGlu& activation) {
  return with_swiglu(context, product, activation) || block_rows_product_and_swiglu(context, product, activation);
}

bool few_rows_product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation) {
  return with_swiglu(context, product, activation) || block_rows_product_and_swiglu(context, product, activation);
}

}  // namespace moe::cuda
