#pragma once
/// Writes a model folder from any source of weights, in slices of tensors. Memory does not grow with the model.

#include <functional>
#include <optional>

#include "base/thread_pool.h"
#include "checkpoint/weight_source.h"

namespace moe {

struct WriteOptions {
  /// f32, bf16 or f16; nothing: as the source stores each tensor, blocks as f32.
  std::optional<DType> dtype;
  int64_t most_file_bytes = int64_t{5} << 30;                    ///< of tensors in a file, or one larger tensor
  std::function<void(int64_t done, int64_t all)> progress = {};  ///< bytes written
};

/// Statistics of the written tensors of one kind.
struct WrittenKind {
  ParameterKind kind;
  DType dtype;  ///< of the last of them
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
  double squared_error = 0;   ///< sum over elements of (written - read)^2
  double squared_values = 0;  ///< sum of read^2

  /// sqrt(squared_error / squared_values); 0 if both are 0.
  double relative_error() const;
};

/// Writes FOLDER/config.json and FOLDER/model.safetensors, or several files with an index if one file would be too
/// large. Elements that keep their type keep their bytes. The result has the kinds of the model in the order of
/// ParameterKind.
std::vector<WrittenKind> write_model(const fs::path& folder, const WeightSource& source, const WriteOptions& options,
                                     ThreadPool& pool);

/// The files of a model folder other than weights and config.json: tokenizer, template, generation settings.
std::vector<fs::path> companion_files(const fs::path& folder);

}  // namespace moe
