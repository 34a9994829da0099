#include "checkpoint/exports.h"

#include "base/error.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/hub/hub_model.h"
#include "checkpoint/write_gguf.h"
#include "tokenizer/gguf_tokenizer_entries.h"

namespace moe {

std::string gguf_export(const ModelConfig& config, const fs::path& tokenizer) {
  std::string architecture = gguf_architecture(config);
  if (!tokenizer.empty()) gguf_tokenizer_entries(tokenizer, config.vocab_size);
  return architecture;
}

std::string exports_text(const ModelConfig& config, const fs::path& tokenizer) {
  const Json hf = to_hf_config(config, DType::f32);
  const std::string transformers =
      fmt::format("transformers as {}{}", hf.at("architectures").front().get<std::string>(),
                  needs_modeling_file(config) ? " (with modeling_moe.py)" : "");
  try {
    return fmt::format("{}; llama.cpp as {}", transformers, gguf_export(config, tokenizer));
  } catch (const Error& error) {
    return fmt::format("{}; not llama.cpp: {}", transformers, error.what());
  }
}

}  // namespace moe
