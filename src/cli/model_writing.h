#pragma once
/// Code that `moe convert` and `moe init` share: the checked output folder, progress, the table at the end.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/output_path.h"
#include "checkpoint/write_model.h"

namespace moe {

/// Options of a model folder to write.
struct ModelOutput {
  std::string folder;
  std::string dtype;  ///< "": as the source stores it
  int threads = 0;
};

/// Declares --dtype and --threads.
void add_model_output_options(CLI::App& command, ModelOutput& output, const std::string& dtype_help);

/// Before any work: refuses a folder that cannot be written or is not empty, and types that no folder can have.
void check_model_output(const ModelOutput& output);

/// Writes the source's weights, config.json and a model card, and copies `companions`. The folder is complete or
/// absent. Prints a table: type, size and error for each kind of tensor.
void write_model_folder(const ModelOutput& output, const WeightSource& source, const std::vector<fs::path>& companions,
                        const std::string& origin);

}  // namespace moe
