#include "checkpoint/weight_source.h"

#include <functional>
#include <numeric>

#include "base/error.h"

namespace moe {

int64_t StoredTensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

WeightSource::WeightSource(ModelConfig config) : config_(std::move(config)), table_(parameter_table(config_)) {}

void WeightSource::read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const {
  MOE_CHECK(stored(parameter, begin) == DType::f32);
  read(parameter, begin, count, static_cast<float*>(bytes));
}

std::optional<DType> stored_type(const WeightSource& source, size_t parameter) {
  const Parameter& info = source.table()[parameter];
  const DType type = source.stored(parameter, 0);
  const int64_t width = info.is_matrix() ? info.shape[info.shape.rank() - 1] : 1;
  int64_t row = 0;
  // The slices of one expert stand for those of all: files have one tensor for all of them.
  for (const ParameterSlice& slice : info.slices) {
    if (source.stored(parameter, row * width) != type) return std::nullopt;
    row += slice.rows;
  }
  return type;
}

InitialWeights::InitialWeights(const ModelConfig& config, uint64_t seed) : WeightSource(config), seed_(seed) {
  for (const Parameter& parameter : table()) {
    if (!parameter.is_table()) continue;
    fail("{} is a table of a hash router, which follows from a dataset; train the model with `moe train` instead",
         parameter.name);
  }
}

DType InitialWeights::stored(size_t, int64_t) const { return DType::f32; }

StoredElement InitialWeights::place(size_t parameter, int64_t element) const {
  return {"the initial weights", table()[parameter].name, element};
}

void InitialWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  initial_values(table()[parameter], seed_, config().initializer_range, begin, count, values);
}

void InitialWeights::read(size_t, int64_t, int64_t, int32_t*) const { MOE_CHECK(!"there are no tables"); }

}  // namespace moe
