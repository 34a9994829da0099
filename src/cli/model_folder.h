#pragma once
/// MODEL_DIR and --tokenizer: options that name a model (checkpoint/model_path.h) or a tokenizer.

#include <string>

#include <CLI/CLI.hpp>

#include "checkpoint/model_path.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// The tokenizer of a model of `rows` ids (config.json's vocab_size). One that has more ids is an error.
Tokenizer load_model_tokenizer(const std::string& model, int64_t rows);

/// Declares MODEL_DIR. `folder` gets model_folder() of the argument.
CLI::Option* add_model_option(CLI::App& command, std::string& folder, const std::string& help);

/// Declares --tokenizer, a folder or a file. For a run folder it is the tokenizer of the newest checkpoint.
CLI::Option* add_tokenizer_option(CLI::App& command, std::string& path, const std::string& help);

}  // namespace moe
