#include "model/size_limits.h"

#include "model/parameters.h"

namespace moe {
namespace {

constexpr double kMostParameters = 9007199254740992.0;  // 2^53: counted exactly in double too

double elements(const Shape& shape) {
  double product = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) product *= static_cast<double>(shape[axis]);
  return product;
}

}  // namespace

void require_countable(const ModelConfig& config) {
  double total = 0;
  Parameter largest;
  for (const Parameter& parameter : parameter_table(config)) {
    total += elements(parameter.shape);
    if (largest.name.empty() || elements(parameter.shape) > elements(largest.shape)) largest = parameter;
  }
  if (total <= kMostParameters) return;
  fail(
      "the model has {:.4g} parameters, expected at most {:.4g}; the largest tensor is {} with {}: use smaller sizes "
      "or "
      "fewer experts and layers",
      total, kMostParameters, largest.name, largest.shape.text());
}

}  // namespace moe
