#pragma once
/// Products of few rows of x, as when tokens are generated one by one. Their time is that of reading the weights, so
/// every weight is read once, with all rows of x at a time. Weights are bf16, f32 (wide_rows.h) or blocks
/// (block_rows.h). Each function returns false, with nothing queued, if it does not support the operation: more rows, x
/// of another type than bf16, rows that are no whole 16-byte chunks.

#include "backend/cuda/context.h"
#include "ops/expert_rows.h"

namespace moe::cuda {

bool few_rows_product(Context& context, const Gemm& op);
bool few_rows_product(Context& context, const GroupedGemm& op);
/// Whether few_rows_product takes it, with weights in bf16.
bool suits_few_rows(const GroupedGemm& op);
/// A norm of one or two rows and a product with what it gives, with the bits of both in turn.
bool few_rows_product_of_norm(Context& context, const RmsNorm& norm, const Gemm& op);
/// A product and the activation of what it gives, with the bits of both in turn.
bool product_and_swiglu(Context& context, const Gemm& product, const SwiGlu& activation);
bool few_rows_product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation);

}  // namespace moe::cuda
