#pragma once
/// Writes a model as a GGUF file from any source of weights, in slices of tensors. Memory does not grow with the model.

#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf_types_of.h"
#include "checkpoint/slice_writer.h"
#include "checkpoint/weight_source.h"
#include "formats/gguf_value.h"

namespace moe {

struct GgufOptions {
  /// At most one of both. Neither: plain types as the source stores them, blocks as f32.
  std::optional<DType> dtype = {};  ///< one of plain_gguf_types() (checkpoint/file_types.h)
  const Quantization* quantization = nullptr;
  std::string name = {};                  ///< general.name
  std::string license = {};               ///< general.license; "": not said
  std::vector<GgufEntry> tokenizer = {};  ///< the keys of its tokenizer and chat template; empty: none
  SliceWriter::Progress progress = {};
};

/// The architecture of llama.cpp that computes the model: "llama" (dense models, and experts whose gates are divided by
/// their sum) or "deepseek". If there is none, an error says which setting it cannot express.
std::string gguf_architecture(const ModelConfig& config);

/// The metadata of the model alone, without the tokenizer.
std::vector<GgufEntry> gguf_metadata(const ModelConfig& config);

/// Writes PATH, complete or absent. A source's plain type that GGUF files do not have is an error. Matrices get the
/// wanted type, norms and routers f32. The result is that of SliceWriter::kinds().
std::vector<WrittenKind> write_gguf(const fs::path& path, const WeightSource& source, const GgufOptions& options,
                                    ThreadPool& pool);

}  // namespace moe
