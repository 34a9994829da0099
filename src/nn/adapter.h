#pragma once
/// Low-rank adapters of linear maps (LoRA, Hu et al. 2021): y_s += scale (d(x) A_s^T) B_s^T for each slice s of the
/// map's rows, where d is dropout in training. I inputs, O outputs, r the rank, S slices, n rows; E experts and R rows
/// sorted by expert, in the experts' form.

#include <array>
#include <vector>

#include "nn/pass.h"

namespace moe {

/// Experts that follow each other: `count` of them from `first` on. They are numbers `at` and following of a list.
struct ExpertRun {
  int64_t first, count, at;
};
/// A list of experts, ascending, as runs.
std::vector<ExpertRun> runs_of(const std::vector<int64_t>& experts);

/// The matrices of an adapter, or their gradients, of which those that are frozen are absent.
struct Adapter {
  View a = {};  ///< [S r, I]: A of each slice, one below the other; of experts [E, S r, I]
  View b = {};  ///< [O, r]: B of each slice, in the slice's rows; of experts [E, O, r]
  float scale = 1;
  std::array<int64_t, 3> slices = {};  ///< the rows of each slice; 0: there is no further one
  uint64_t stream = 0;                 ///< of the draws of its dropout
  /// Of gradients: the experts that they are of, if only these train, ascending; null: all. It is not owned.
  const std::vector<int64_t>* experts = nullptr;

  explicit operator bool() const { return a || b; }
};

/// The rows that an expert's product works on (nn/linear.h). Without offsets, all rows are of one matrix.
struct ExpertRowsOf {
  View offsets = {};  ///< i32 [E + 1]
  View rows = {};     ///< i32 [R]: the row of x (in backward of dy) for each of the R rows; absent: row r is row r
  /// i32 [R]: the number of each row in the draws of dropout, `keys_per_token` of which belong to each token; absent:
  /// the rows are tokens.
  View keys = {};
  int64_t keys_per_token = 1;
};

/// y = the adapter's change, for all rows, to which the product of the weights is to be added. False, and y is left
/// alone, without an adapter.
bool adapter_forward(Pass& pass, const Adapter& adapter, View x, View y);

/// dx += the adapter's part of the gradient of x, for all rows; not for an absent dx. Without `accumulate`, and then
/// without dropout, dx is overwritten. Returns what adapter_weight_gradient() needs, in scratch memory of the caller's
/// frame.
View adapter_input_gradient(Pass& pass, const Adapter& adapter, View dy, View dx, bool accumulate = true);

/// scale d(x) A^T of experts, in saved memory; absent without an adapter.
View expert_low(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts, View x);

/// The product of experts' weights with the adapter's change, for what expert_low() gives, and then the activation of
/// both if it has a gate_up.
void adapted_product(Pass& pass, const Adapter& adapter, View low, const GroupedGemm& product,
                     const SwiGlu& activation = {});

/// The gradient of experts' x: `product`, which is that by their weights, and the adapter's part. Returns the same as
/// adapter_input_gradient(). `experts.rows` are those of dy, product.a.
View adapted_input_gradient(Pass& pass, const Adapter& adapter, const ExpertRowsOf& experts,
                            const GroupedGemm& product);

/// dA and dB of what `gradient` has. `dy_rows` are the rows of dy, `experts.rows` those of x; `low` is what
/// expert_low() gave in forward, absent: it is made again. With `accumulate` the results are added.
void adapter_weight_gradient(Pass& pass, const Adapter& adapter, const Adapter& gradient, const ExpertRowsOf& experts,
                             View dy, View dy_rows, View x, View d_low, View low, bool accumulate);

}  // namespace moe
