#pragma once
/// MODEL_DIR: a model's folder, or a run's, whose newest checkpoint is then meant.

#include <string>

#include <CLI/CLI.hpp>

namespace moe {

/// `path` itself where it is a model's folder. Of a run folder: its `latest` or, where a copy lost that, the checkpoint
/// with the most steps; an error where there is none yet. Anything else comes back as it is.
std::string model_folder(const std::string& path);

/// Declares MODEL_DIR; `folder` becomes model_folder() of what is given.
CLI::Option* add_model_option(CLI::App& command, std::string& folder, const std::string& help);

/// Declares --tokenizer, a folder or a file; of a run folder the newest checkpoint's.
CLI::Option* add_tokenizer_option(CLI::App& command, std::string& path, const std::string& help);

}  // namespace moe
