#pragma once
/// The text files of a command: FILE..., and --domain NAME=FILE.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "data/builder.h"

namespace moe {

struct TextSourceOptions {
  std::vector<std::string> files;
  std::vector<std::string> labelled;  ///< NAME=FILE
};

/// Declares `FILE...` and `--domain`.
void add_text_source_options(CLI::App& command, TextSourceOptions& options);

/// The files with their domains: first the unlabelled ones, in the order given. At least one.
std::vector<TextSource> text_sources(const TextSourceOptions& options);

}  // namespace moe
