#pragma once
/// Products of few rows of bf16 with weights in blocks: blocks are read once and multiplied as they are. Codes are
/// integers that bf16 holds exactly, so nothing but sums in f32 is rounded. Each function returns false, with nothing
/// queued, if it does not support the operation: more rows, other types, rows that are no whole 16-byte chunks.

#include "backend/cuda/context.h"
#include "ops/expert_rows.h"

namespace moe::cuda {

bool block_rows_product(Context& context, const Gemm& op);
bool block_rows_product(Context& context, const GroupedGemm& op);
/// A product and the activation of what it gives, with the bits of both in turn.
bool block_rows_product_and_swiglu(Context& context, const Gemm& product, const SwiGlu& activation);
bool block_rows_product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation);

}  // namespace moe::cuda
