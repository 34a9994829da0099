#pragma once
/// Code that `moe convert` and `moe init` share: the checked output, progress, the table at the end.

#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/output_path.h"
#include "checkpoint/expert_list.h"
#include "checkpoint/write_gguf.h"
#include "checkpoint/write_model.h"

namespace moe {

/// Options of a model to write: a folder, or a file whose name ends in .gguf.
struct ModelOutput {
  std::string path;
  std::string dtype;         ///< "": as the source stores it
  std::string quantization;  ///< "": none
  std::string license;       ///< as model pages name it: "mit"; "": not said
  int threads = 0;
};

/// Declares --dtype, --quant, --license and --threads.
void add_model_output_options(CLI::App& command, ModelOutput& output, const std::string& dtype_help);

/// Before any work: refuses a path that cannot be written or has something already, and types that it cannot have.
void check_model_output(const ModelOutput& output);

/// What a model has beside its weights.
struct Companions {
  std::vector<std::pair<std::string, std::string>> files;  ///< paths and contents, for a folder
  std::vector<GgufEntry> entries;                          ///< the tokenizer, for a GGUF file
};

/// Tokenizer, chat template and generation settings of the model at `path` (a folder or a GGUF file), in the form that
/// the output needs. Without a tokenizer, or if `with_tokenizer` is false, the model gets none.
Companions companions_of(const fs::path& path, const ModelOutput& output, int64_t rows, bool with_tokenizer);

/// Where a model comes from, for its model card.
struct Origin {
  std::string sentence;
  std::string run = {};  ///< of the run that made it (train/run_card.h); "": unknown
};

/// Writes the source's weights and its companions; a folder also gets config.json and a model card. The output is
/// complete or absent. Prints a table: type, size and error for each kind of tensor.
void write_converted(const ModelOutput& output, const WeightSource& source, const Companions& companions,
                     const Origin& origin);

/// Writes what `list` names of the source, as an adapter (checkpoint/expert_adapter.h), complete or absent. Prints the
/// same table.
void write_adapter(const ModelOutput& output, const WeightSource& source, const ExpertList& list);

}  // namespace moe
