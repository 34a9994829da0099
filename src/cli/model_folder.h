#pragma once
/// MODEL_DIR: the folder of a model, or of a run, which stands for its newest checkpoint.

#include <string>

#include <CLI/CLI.hpp>

#include "base/fs.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// `path` itself if it is a model's folder. For a run folder: its `latest`, or, if a copy has lost that link, the
/// checkpoint with the most steps; an error if there is none yet. Refuses the folder of a dataset or of a tokenizer
/// alone. Any other path is returned unchanged.
std::string model_folder(const std::string& path);

/// True if `folder` has the files of a tokenizer.
bool has_tokenizer(const fs::path& folder);

/// The tokenizer of a model of `rows` ids (config.json's vocab_size). One that has more ids is an error.
Tokenizer load_model_tokenizer(const std::string& model, int64_t rows);

/// Declares MODEL_DIR. `folder` gets model_folder() of the argument.
CLI::Option* add_model_option(CLI::App& command, std::string& folder, const std::string& help);

/// Declares --tokenizer, a folder or a file. For a run folder it is the tokenizer of the newest checkpoint.
CLI::Option* add_tokenizer_option(CLI::App& command, std::string& path, const std::string& help);

}  // namespace moe
