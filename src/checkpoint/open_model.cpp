#include "checkpoint/open_model.h"

#include "checkpoint/file_weights.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_weights.h"
#include "checkpoint/hf_config.h"

namespace moe {

ModelConfig read_model_config(const fs::path& path) {
  return is_gguf(path) ? gguf_model_config(open_gguf(path)) : read_hf_config(path);
}

std::unique_ptr<WeightSource> open_weights(const fs::path& path) {
  if (is_gguf(path)) return std::make_unique<GgufWeights>(path);
  return std::make_unique<FolderWeights>(path);
}

}  // namespace moe
