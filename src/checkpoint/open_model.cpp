#include "checkpoint/open_model.h"

#include "checkpoint/file_weights.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_weights.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"

namespace moe {

ModelConfig read_model_config(const fs::path& path) {
  return is_gguf(path) ? gguf_model_config(open_gguf(path)) : read_hf_config(path);
}

std::unique_ptr<WeightSource> open_weights(const fs::path& path) {
  if (is_gguf(path)) return std::make_unique<GgufWeights>(path);
  return std::make_unique<FolderWeights>(path);
}

void load_model(const fs::path& path, const ModelConfig& config, const std::vector<View>& views, Device& device) {
  const std::vector<Parameter> table = parameter_table(config);
  if (is_gguf(path)) return load_weights(GgufWeights(path), path, table, views, device);
  load_weights(path, config, table, views, device);
}

}  // namespace moe
