#pragma once
/// What to say about a command or an option that does not exist: what was perhaps meant, by its spelling or its
/// meaning.

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace moe {

/// "moe eval loss": the command's name with those of the commands above it.
std::string full_name(const CLI::App& command);

/// The command that was chosen on the command line, after parsing; `app` where none was.
const CLI::App& chosen_command(const CLI::App& app);

/// A sentence about `word`, which is no command below `group`.
std::string unknown_command(const CLI::App& group, const std::string& word);

/// A sentence about `word`, which is no option of `command`.
std::string unknown_option(const CLI::App& command, const std::string& word);

/// The sentence about the first of the arguments that parsing left over; "": none was.
std::string unknown_argument(const CLI::App& app);

}  // namespace moe
