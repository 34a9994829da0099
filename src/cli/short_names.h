#pragma once
/// The short names of options that llama.cpp has, for the commands that generate text.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace moe {

/// The words of a command line (without the program's name), with our names in place of llama.cpp's, if the command has
/// the option: -n becomes --max-new-tokens. `-m MODEL` becomes MODEL. Values of options stay as they are.
std::vector<std::string> with_long_names(const CLI::App& app, std::vector<std::string> words);

}  // namespace moe
