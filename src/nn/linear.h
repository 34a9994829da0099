#pragma once
/// A linear map y = x W^T (+ b), and the experts' form of it, in which every expert has its own W. All products of
/// weights in nn/ are made here; tools/check_layers.py refuses others. I inputs, O outputs, n rows, E experts, R rows
/// sorted by expert.

#include "nn/adapter.h"

namespace moe {

/// The weight of a linear map, or its gradient, which is absent if the weight is frozen.
struct Linear {
  View weight = {};  ///< [O, I]; of experts [E, O, I]
  View bias = {};    ///< [O]; mostly absent
  Adapter adapter = {};
  /// Of a gradient: the experts that it is of, if only these train, ascending; null: all. It is not owned.
  const std::vector<int64_t>* experts = nullptr;

  explicit operator bool() const { return static_cast<bool>(weight); }
  int64_t inputs() const { return weight.size(weight.shape.rank() - 1); }
  int64_t outputs() const { return weight.size(weight.shape.rank() - 2); }
};

/// y [n, O] = x W^T, plus the bias and what an adapter adds, if there is one.
void linear_forward(Pass& pass, const Linear& map, View x, View y);

/// y = x W^T for the y that `activation` reads, and the activation.
void linear_forward(Pass& pass, const Linear& map, View x, const SwiGlu& activation);

/// dx [n, I] = dy W, or dx += dy W; nothing for an absent dx. Returns what linear_weight_gradient() needs for an
/// adapter, in scratch memory of the caller's frame.
View linear_input_gradient(Pass& pass, const Linear& map, View dy, View dx, bool accumulate = false);

/// dW += dy^T x, of the bias the sum of dy's rows, and the gradients of the adapter; nothing for what is absent.
/// `d_low` is the result of linear_input_gradient() for the same dy. The first microbatch of a step overwrites
/// gradients, unless `accumulate` is set.
void linear_weight_gradient(Pass& pass, const Linear& map, const Linear& gradient, View dy, View x, View d_low,
                            bool accumulate = false);

/// The same of a map without an adapter.
void linear_weight_gradient(Pass& pass, const Linear& gradient, View dy, View x, bool accumulate = false);

/// The experts' form. These functions only describe the product of the weights, which is a part of a fusion
/// (ops/expert_rows.h); an adapter's products come after it (nn/adapter.h).
/// `x_rows` (or `dy_rows`) i32 [R] says which row of x belongs to each of the R rows; absent: row r is row r. `offsets`
/// i32 [E + 1] has each expert's first row.

/// Row r of y [R, O] = x W_e^T.
GroupedGemm expert_product(const Linear& map, View x, View x_rows, View offsets, View y);

/// Row r of dx [R, I] = dy W_e.
GroupedGemm expert_input_gradient(const Linear& map, View dy, View dy_rows, View offsets, View dx);

/// dW_e += dy^T x over the rows of each expert, with its squares added to those of the pass; its c is absent if dW is,
/// or if dW is of some experts alone. The first microbatch of a step overwrites dW.
GroupedGemmReduce expert_weight_gradient(const Pass& pass, const Linear& gradient, View dy, View dy_rows, View x,
                                         View x_rows, View offsets);

/// Runs these products if dW is of some experts alone.
void some_experts_weight_gradient(Pass& pass, const Linear& gradient, GroupedGemmReduce product);

}  // namespace moe
