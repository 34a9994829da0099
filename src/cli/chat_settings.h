#pragma once
/// What /set changes: the options of sampling, with the names and ranges that they have on the command line.

#include <string>
#include <string_view>

#include "infer/generation.h"

namespace moe {

/// Every key, its value and its meaning, a line each.
std::string settings_table(const GenerationOptions& options);

/// The options with "temperature" = "0.5" and the like. A UsageError for an unknown key or a value out of range.
GenerationOptions with_setting(const GenerationOptions& options, const std::string& key, const std::string& value);

}  // namespace moe
