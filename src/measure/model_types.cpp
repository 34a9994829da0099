#include "measure/model_types.h"

#include <algorithm>

#include "base/error.h"
#include "checkpoint/weight_source.h"
#include "infer/weight_types.h"
#include "model/pass_memory.h"

namespace moe {
namespace {

/// The types of a file that does not exist, and no weights.
class FileTypes final : public WeightSource {
 public:
  FileTypes(const ModelConfig& config, const Quantization& quantization)
      : WeightSource(config), types_(table().size()) {
    for (const GgufName& tensor : gguf_names(config, table())) {
      const DType type = gguf_type_of(quantization, tensor, config);
      for (const GgufPart& part : tensor.parts) types_[part.parameter].push_back({part.begin, type});
    }
    for (std::vector<Part>& parts : types_) std::sort(parts.begin(), parts.end());
  }

  DType stored(size_t parameter, int64_t element) const override {
    DType type = DType::f32;
    for (const Part& part : types_[parameter]) {
      if (part.begin <= element) type = part.type;
    }
    return type;
  }
  StoredElement place(size_t, int64_t) const override { MOE_CHECK(!"the place of a weight that is in no file"); }
  void read(size_t, int64_t, int64_t, float*) const override { MOE_CHECK(!"weights that are in no file"); }
  void read(size_t, int64_t, int64_t, int32_t*) const override { MOE_CHECK(!"weights that are in no file"); }

 private:
  struct Part {
    int64_t begin;
    DType type;

    bool operator<(const Part& other) const { return begin < other.begin; }
  };
  std::vector<std::vector<Part>> types_;  ///< of each parameter
};

}  // namespace

std::vector<DType> types_of_weights(const ModelConfig& config, DType weights) {
  std::vector<DType> types;
  for (const Parameter& parameter : parameter_table(config)) types.push_back(parameter.storage(weights));
  return types;
}

std::vector<DType> types_of_file(const ModelConfig& config, const Quantization& quantization, DType others) {
  WeightTypes types{DType::f32, true};
  types.beside_blocks = others;
  return stored_types(FileTypes(config, quantization), types);
}

int64_t bytes_of_weights(const ModelConfig& config, const std::vector<DType>& types) {
  Arena measure("weights", nullptr, PassSizes{}.saved);
  push_weights(measure, parameter_table(config), types);
  return static_cast<int64_t>(measure.peak_bytes());
}

}  // namespace moe
