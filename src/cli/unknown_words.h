#pragma once
/// Answers for a command or an option that does not exist: the ones that were probably meant, by spelling or meaning.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace moe {

/// "moe eval loss": the command's name after the names of the commands above it.
std::string full_name(const CLI::App& command);

/// The command that was chosen on the command line, after parsing; `app` if none was.
const CLI::App& chosen_command(const CLI::App& app);

/// The name that `word` is probably a mistyped or shortened form of; "": none is near enough.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);

/// A sentence about `word`, which is not a command below `group`.
std::string unknown_command(const CLI::App& group, const std::string& word);

/// A sentence about `word`, which is not an option of `command`.
std::string unknown_option(const CLI::App& command, const std::string& word);

/// A sentence about the first argument that parsing did not use; "" if it used all.
std::string unknown_argument(const CLI::App& app);

}  // namespace moe
