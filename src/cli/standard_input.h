#pragma once

#include <string>

namespace moe {

/// All of standard input, as it is.
std::string read_standard_input();

/// Whether something was sent to standard input: it is a pipe or a file, neither a terminal nor a device.
bool standard_input_is_given();

}  // namespace moe
