#pragma once

#include <string>

namespace moe {

/// All bytes of standard input. More than 1 GiB are refused.
std::string read_standard_input();

/// True if standard input is a pipe or a file, and not a terminal or another device.
bool standard_input_is_given();

}  // namespace moe
