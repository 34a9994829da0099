#include "backend/cuda/block_rows.cuh"
#include "backend/cuda/block_rows.h"

namespace moe::cuda {
namespace {

using few_rows::FewRows;

// Above these, blocks are widened first (widened_product.h).
constexpr int64_t kMostRows = 2 * few_rows::kTokens;
constexpr int64_t kMostRowsOfAnExpert = 16;  ///< on average

template <class Op>
bool supported(const Op& op) {
  const int64_t k = op.a.size(1);
  return may_use_library() && op.transpose_b && is_block_weight(op.b.dtype) && !is_line_weight(op.b.dtype) &&
         few_rows::in_chunks(op.a) && k > 0 && k < INT32_MAX && op.c.elements() > 0;
}

bool suits(const Gemm& op) {
  return !op.transpose_a && supported(op) && op.c.size(0) <= kMostRows && op.c.size(1) < INT32_MAX;
}
bool suits(const GroupedGemm& op) {
  return supported(op) && op.c.size(0) <= kMostRowsOfAnExpert * op.b.size(0) &&
         op.b.size(0) <= few_rows::kMostExperts && op.b.size(1) < INT32_MAX / 2;
}

void start(const Context& context, const FewRows& p, const View& weights, bool with_swiglu) {
  with_block_type(weights.dtype, [&](auto type) {
    if constexpr (requires { decltype(type)::kStage; }) {
      block_rows::start_type<decltype(type)>(context, p, static_cast<const uint8_t*>(weights.end()), with_swiglu);
    }
  });
}

template <class Op>
bool run(Context& context, const Op& op) {
  if (!suits(op)) return false;
  start(context, few_rows::problem(context, op), op.b, false);
  return true;
}

template <class Op>
bool run(Context& context, const Op& product, const SwiGlu& activation) {
  if (!suits(product)) return false;
  const std::optional<FewRows> p = few_rows::problem_with_swiglu(context, product, activation);
  if (p) start(context, *p, product.b, true);
  return p.has_value();
}

}  // namespace

bool block_rows_product(Context& context, const Gemm& op) { return run(context, op); }
bool block_rows_product(Context& context, const GroupedGemm& op) { return run(context, op); }
bool block_rows_product_and_swiglu(Context& context, const Gemm& product, const SwiGlu& activation) {
  return run(context, product, activation);
}
bool block_rows_product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation) {
  return run(context, product, activation);
}

}  // namespace moe::cuda
