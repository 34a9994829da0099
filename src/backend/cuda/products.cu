#include "backend/cuda/few_rows.h"
#include "backend/cuda/mixed_product.h"
#include "backend/cuda/path.h"
#include "backend/cuda/products.h"
#include "backend/cuda/slow_path.h"
#include "backend/cuda/tile_product.h"
#include "backend/cuda/weight_element.cuh"
#include "backend/cuda/widened_product.h"

namespace moe::cuda {

void product(Context& context, const Gemm& op) {
  if (op.c.elements() == 0) return;
  if (few_rows_product(context, op)) return;
  if (widened_product(context, op, [&](const Gemm& part) { product(context, part); })) return;
  if (is_other_weight(op.b.dtype)) return tile_product(context, op);
  const bool library = may_use_library() && op.a.elements() > 0;
  if (library && context.products.run(op, context.stream, context.workspace)) return;
  if (library && mixed_product(context, op)) return;
  const bool wanted = op.a.dtype == DType::bf16 || op.b.dtype == DType::bf16 || op.a.dtype == op.b.dtype;
  if (library && wanted && flops(op) >= kWorthAWarning) {
    note_slow_path(Gemm::name,
                   "cuBLASLt does not take a product of this size and alignment, or its workspace is too small");
  }
  tile_product(context, op);
}

template <>
void execute(Context& context, const Gemm& op) {
  product(context, op);
}

template <>
void execute(Context& context, const GroupedGemm& op) {
  if (few_rows_product(context, op)) return;
  const auto part_product = [&](const GroupedGemm& part, int64_t) { tile_product(context, part); };
  if (!widened_product(context, op, part_product)) tile_product(context, op);
}

template <>
void execute(Context& context, const GroupedGemmReduce& op) {
  tile_product(context, op);
}

}  // namespace moe::cuda
