#include "nn/linear.h"

namespace moe {
namespace {

/// [n, 1]: products with it add a bias to every row, or sum rows.
View ones(Pass& pass, int64_t rows) {
  const View view = pass.temporary("linear.ones", {rows, 1});
  pass.backend.run(Fill{.x = view, .value = 1});
  return view;
}

View as_row(const View& bias) { return bias.reshaped({1, bias.elements()}); }

}  // namespace

void linear_forward(Pass& pass, const Linear& map, View x, const SwiGlu& activation) {
  if (map.bias || map.adapter) {
    linear_forward(pass, map, x, activation.gate_up);
    return pass.backend.run(activation);
  }
  pass.backend.run(ActivatedProduct{.product = {.a = x, .b = map.weight, .c = activation.gate_up, .transpose_b = true},
                                    .activation = activation});
}

void linear_forward(Pass& pass, const Linear& map, View x, View y) {
  // The weights' product adds to the change as it stores, which costs less than to add the change to its result.
  const bool changed = adapter_forward(pass, map.adapter, x, y);
  pass.backend.run(Gemm{.a = x, .b = map.weight, .c = y, .transpose_b = true, .accumulate = changed});
  if (!map.bias) return;
  const Arena::Frame frame(pass.scratch);
  pass.backend.run(Gemm{.a = ones(pass, x.size(0)), .b = as_row(map.bias), .c = y, .accumulate = true});
}

View linear_input_gradient(Pass& pass, const Linear& map, View dy, View dx, bool accumulate) {
  const bool first = map.adapter && dx && !accumulate && pass.adapter_dropout.probability == 0;
  View d_low;
  if (first) d_low = adapter_input_gradient(pass, map.adapter, dy, dx, false);
  if (dx) pass.backend.run(Gemm{.a = dy, .b = map.weight, .c = dx, .accumulate = accumulate || first});
  if (!first) d_low = adapter_input_gradient(pass, map.adapter, dy, dx);
  return d_low;
}

void linear_weight_gradient(Pass& pass, const Linear& map, const Linear& gradient, View dy, View x, View d_low,
                            bool accumulate) {
  adapter_weight_gradient(pass, map.adapter, gradient.adapter, {}, dy, {}, x, d_low, {},
                          accumulate || pass.accumulate_gradients);
  linear_weight_gradient(pass, gradient, dy, x, accumulate);
}

void linear_weight_gradient(Pass& pass, const Linear& gradient, View dy, View x, bool accumulate) {
  const bool add = accumulate || pass.accumulate_gradients;
  if (gradient.weight)
    pass.backend.run(Gemm{.a = dy, .b = x, .c = gradient.weight, .transpose_a = true, .accumulate = add});
  if (!gradient.bias) return;
  const Arena::Frame frame(pass.scratch);
  pass.backend.run(
      Gemm{.a = ones(pass, dy.size(0)), .b = dy, .c = as_row(gradient.bias), .transpose_a = true, .accumulate = add});
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
          .c = gradient.experts != nullptr ? View{} : gradient.weight,
          .squares = pass.gradient_squares,
          .accumulate = pass.accumulate_gradients};
}

void some_experts_weight_gradient(Pass& pass, const Linear& gradient, GroupedGemmReduce product) {
  if (gradient.experts == nullptr || !gradient) return;
  const View offsets = product.offsets;
  for (const ExpertRun& run : runs_of(*gradient.experts)) {
    product.offsets = offsets.rows(run.first, run.count + 1);
    product.c = gradient.weight.rows(run.at, run.count);
    pass.backend.run(product);
  }
}

}  // namespace moe
