#pragma once
/// Writes a model folder from any source of weights, in slices of tensors. Memory does not grow with the model.

#include <functional>
#include <optional>

#include "base/file.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/slice_writer.h"
#include "checkpoint/weight_source.h"

namespace moe {

struct WriteOptions {
  /// One of folder_types() (checkpoint/file_types.h); nothing: as the source stores each tensor, blocks as f32.
  std::optional<DType> dtype;
  int64_t most_file_bytes = int64_t{5} << 30;                    ///< of tensors in a file, or one larger tensor
  std::function<void(int64_t done, int64_t all)> progress = {};  ///< bytes written
};

/// Writes FOLDER/config.json and FOLDER/model.safetensors, or several files with an index if one file would be too
/// large; and FOLDER/modeling_moe.py if `transformers` has no class for the model (checkpoint/hub/hub_model.h).
/// Elements that keep their type keep their bytes. The result is that of SliceWriter::kinds().
std::vector<WrittenKind> write_model(const fs::path& folder, const WeightSource& source, const WriteOptions& options,
                                     ThreadPool& pool);

/// Writes some of the source's tensors to one file, in the same way.
std::vector<WrittenKind> write_tensors(const fs::path& file, const WeightSource& source, std::vector<HfTensor> tensors,
                                       const WriteOptions& options, ThreadPool& pool);

}  // namespace moe
