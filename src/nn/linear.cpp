#include "nn/linear.h"

namespace moe {

void linear_forward(Pass& pass, const Linear& map, View x, View y) {
  pass.backend.run(Gemm{.a = x, .b = map.weight, .c = y, .transpose_b = true});
}

void linear_input_gradient(Pass& pass, const Linear& map, View dy, View dx, bool accumulate) {
  pass.backend.run(Gemm{.a = dy, .b = map.weight, .c = dx, .accumulate = accumulate});
}

void linear_weight_gradient(Pass& pass, const Linear& gradient, View dy, View x, bool accumulate) {
  if (!gradient) return;
  pass.backend.run(Gemm{.a = dy,
                        .b = x,
                        .c = gradient.weight,
                        .transpose_a = true,
                        .accumulate = accumulate || pass.accumulate_gradients});
}

GroupedGemm expert_product(const Linear& map, View x, View x_rows, View offsets, View y) {
  return {.a = x, .a_rows = x_rows, .offsets = offsets, .b = map.weight, .c = y, .transpose_b = true};
}

GroupedGemm expert_input_gradient(const Linear& map, View dy, View dy_rows, View offsets, View dx) {
  return {.a = dy, .a_rows = dy_rows, .offsets = offsets, .b = map.weight, .c = dx};
}

GroupedGemmReduce expert_weight_gradient(const Pass& pass, const Linear& gradient, View dy, View dy_rows, View x,
                                         View x_rows, View offsets) {
  return {.a = dy,
          .a_rows = dy_rows,
          .b = x,
          .b_rows = x_rows,
          .offsets = offsets,
          .c = gradient.weight,
          .squares = pass.gradient_squares,
          .accumulate = pass.accumulate_gradients};
}

}  // namespace moe
