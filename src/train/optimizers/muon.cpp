/// Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for embedding, head, norms and routers.
///
///   m = momentum m + (1 - momentum) g,   u = momentum m + (1 - momentum) g   (Nesterov),
///   o = the matrix nearest to u whose singular values are near 1: five Newton-Schulz steps,
///   p = p (1 - lr weight_decay) - lr 0.2 sqrt(max(rows, columns)) o.
///
/// The factor gives o the root mean square that AdamW's steps usually have (Liu et al. 2025), so that both use the same
/// learning rate. Each expert's matrix is a matrix of its own. So are q, k and v, and gate and up.

#include <algorithm>
#include <cmath>

#include "ops/transfer.h"
#include "train/optimizer.h"

namespace moe {
namespace {

constexpr const char* kSlots[] = {"momentum"};

constexpr int kSteps = 5;
constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
constexpr float kEps = 1e-7f;
constexpr double kScale = 0.2;
/// Matrices are updated together while they have at most so many elements.
constexpr int64_t kTogether = int64_t{1} << 25;

/// Some matrices of equal size: [M, R, C] of the gradient, the momentum and the weights.
struct Matrices {
  View gradient, momentum, exact;

  int64_t count() const { return gradient.size(0); }
  int64_t rows() const { return gradient.size(1); }
  int64_t columns() const { return gradient.size(2); }
};

View unit_sized(Arena& scratch, const char* name, DType dtype, const Matrices& of, int64_t rows, int64_t columns) {
  return scratch.push(name, dtype, {of.count(), rows, columns});
}

/// The matrices of a stack one below the other.
View flat(const View& stack) { return stack.reshaped({stack.size(0) * stack.size(1), stack.size(2)}); }

/// The first row of each matrix of `rows` rows in a stack, and the end: i32 [M + 1].
View offsets_of(const Update& step, const Matrices& of, int64_t rows) {
  std::vector<int32_t> offsets;
  for (int64_t m = 0; m <= of.count(); ++m) offsets.push_back(static_cast<int32_t>(m * rows));
  const View view = step.scratch.push("muon.offsets", DType::i32, {of.count() + 1});
  upload_vector(step.device, view, offsets);
  return view;
}

/// x becomes (a I + b S + c S^2) x with S = x x^T, or x (...) with S = x^T x if that is smaller, five times over. A
/// stack of matrices is multiplied as experts are. Returns the result, which is x or other memory in `scratch`.
View orthogonalized(const Update& step, const Matrices& of, View x) {
  Backend& backend = step.backend;
  const int64_t rows = of.rows(), columns = of.columns(), side = std::min(rows, columns);
  const bool wide = rows <= columns;
  const View square = unit_sized(step.scratch, "muon.square", step.dtype, of, side, side);
  const View polynomial = unit_sized(step.scratch, "muon.polynomial", step.dtype, of, side, side);
  View y = unit_sized(step.scratch, "muon.next", step.dtype, of, rows, columns);
  const View by_row = offsets_of(step, of, rows), by_side = offsets_of(step, of, side);
  for (int i = 0; i < kSteps; ++i) {
    if (wide) {
      backend.run(GroupedGemm{.a = flat(x), .offsets = by_row, .b = x, .c = flat(square), .transpose_b = true});
    } else {
      backend.run(GroupedGemmReduce{.a = flat(x), .b = flat(x), .offsets = by_row, .c = square});
    }
    backend.run(GroupedGemm{.a = flat(square), .offsets = by_side, .b = square, .c = flat(polynomial)});
    backend.run(Blend{.x = square, .y = polynomial, .x_factor = kB, .y_factor = kC});
    const View& left = wide ? polynomial : x;
    const View& right = wide ? x : polynomial;
    backend.run(GroupedGemm{.a = flat(left), .offsets = by_row, .b = right, .c = flat(y)});
    backend.run(Blend{.x = x, .y = y, .x_factor = kA, .y_factor = 1});
    std::swap(x, y);
  }
  return x;
}

void update_matrices(const Update& step, const Matrices& of, double weight_decay) {
  const Arena::Frame frame(step.scratch);
  Backend& backend = step.backend;
  const auto momentum = static_cast<float>(step.config.momentum);
  const auto add_gradient = [&](const View& to) {
    backend.run(Blend{.x = of.gradient,
                      .x_scale = step.gradient_scale,
                      .y = to,
                      .x_factor = static_cast<float>(1 - step.config.momentum),
                      .y_factor = momentum});
  };
  const View ahead = unit_sized(step.scratch, "muon.ahead", of.gradient.dtype, of, of.rows(), of.columns());
  const View unit = unit_sized(step.scratch, "muon.unit", step.dtype, of, of.rows(), of.columns());
  add_gradient(of.momentum);
  backend.run(Cast{.x = of.momentum, .y = ahead});
  add_gradient(ahead);
  backend.run(UnitMatrices{.x = ahead, .y = unit, .eps = kEps});
  const double rate = step.learning_rate * kScale * std::sqrt(static_cast<double>(std::max(of.rows(), of.columns())));
  backend.run(Blend{.x = orthogonalized(step, of, unit),
                    .guard = step.gradient_scale,
                    .y = of.exact,
                    .x_factor = static_cast<float>(-rate),
                    .y_factor = static_cast<float>(1 - step.learning_rate * weight_decay)});
}

/// Matrices [begin, begin + count) of rows [row, row + rows) of each matrix. If these are not all rows, there is one
/// matrix.
Matrices part_of(const TrainedParameter& parameter, int64_t matrices, int64_t begin, int64_t count, int64_t row,
                 int64_t rows) {
  const int64_t columns = parameter.info.shape[parameter.info.shape.rank() - 1];
  const auto part = [&](const View& view) {
    const View flat = view.reshaped({view.elements() / columns, columns});
    const int64_t height = flat.size(0) / matrices;
    return flat.rows(begin * height + row, count * rows).reshaped({count, rows, columns});
  };
  return {part(parameter.gradient), part(parameter.slots[0]), part(parameter.exact())};
}

void update(const Update& step, const TrainedParameter& parameter) {
  const Parameter& info = parameter.info;
  const double decay = info.decays ? step.config.weight_decay : 0;
  const int64_t columns = info.shape[info.shape.rank() - 1];
  const int64_t all_rows = info.shape.elements() / columns;
  const int64_t stacked = info.shard_axis >= 0 ? info.shape[info.shard_axis] : 1;
  const int64_t height = all_rows / stacked;
  const auto& slices = info.slices;
  const bool equal = std::all_of(slices.begin(), slices.end(),
                                 [&](const ParameterSlice& slice) { return slice.rows == slices.front().rows; });
  if (equal) {
    const int64_t rows = slices.empty() ? height : slices.front().rows, matrices = all_rows / rows;
    const int64_t together = std::max<int64_t>(1, kTogether / (rows * columns));
    for (int64_t begin = 0; begin < matrices; begin += together) {
      const int64_t count = std::min(together, matrices - begin);
      update_matrices(step, part_of(parameter, matrices, begin, count, 0, rows), decay);
    }
  } else {
    for (int64_t matrix = 0; matrix < stacked; ++matrix) {
      int64_t row = 0;
      for (const ParameterSlice& slice : slices) {
        update_matrices(step, part_of(parameter, stacked, matrix, 1, row, slice.rows), decay);
        row += slice.rows;
      }
    }
  }
  if (parameter.master) step.backend.run(Cast{.x = parameter.master, .y = parameter.value});
}

const UpdateRule kMuonRule{.slots = kSlots, .update = update};

/// A matrix that maps hidden states to hidden states. Embedding and head map from and to tokens, routers to experts,
/// the gate of shared experts to one number, adapters from and to a few.
bool is_hidden_matrix(const Parameter& parameter) {
  if (parameter.role == ParameterRole::shared_gate || parameter.adapter != AdapterPart::none) return false;
  switch (parameter.kind) {
    case ParameterKind::attention:
    case ParameterKind::dense_ffn:
    case ParameterKind::routed_experts:
    case ParameterKind::shared_experts:
      return parameter.is_matrix();
    case ParameterKind::embedding:
    case ParameterKind::head:
    case ParameterKind::norm:
    case ParameterKind::router:
    case ParameterKind::light_router:
    case ParameterKind::router_state:
      return false;
  }
  return false;
}

constexpr OptimizerSetting kSettings[] = {&OptimizerConfig::momentum, &OptimizerConfig::weight_decay,
                                          &OptimizerConfig::beta1, &OptimizerConfig::beta2, &OptimizerConfig::eps};

}  // namespace

const OptimizerMethod kMuon{.name = "muon",
                            .rule_of = [](const Parameter& parameter) -> const UpdateRule& {
                              return is_hidden_matrix(parameter) ? kMuonRule : kAdamWRule;
                            },
                            .settings = kSettings};

}  // namespace moe
