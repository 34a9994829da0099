#include "checkpoint/exports.h"

#include "base/error.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/hub/hub_model.h"
#include "checkpoint/write_gguf.h"

namespace moe {

std::string exports_text(const ModelConfig& config) {
  const Json hf = to_hf_config(config, DType::f32);
  const std::string transformers =
      fmt::format("transformers as {}{}", hf.at("architectures").front().get<std::string>(),
                  needs_modeling_file(config) ? " (with modeling_moe.py)" : "");
  try {
    return fmt::format("{}; llama.cpp as {}", transformers, gguf_architecture(config));
  } catch (const Error& error) {
    return fmt::format("{}; not llama.cpp: {}", transformers, error.what());
  }
}

}  // namespace moe
