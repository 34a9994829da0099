#pragma once
/// The documents of a .json file: the elements of a list, or values that follow each other.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "data/text_window.h"

namespace moe {

/// Calls `function` with the text of each value and the number of its first line, in order. Memory holds one value.
/// This function only looks for the ends of values, by brackets and quotes; the caller parses what is inside. Between
/// values, only white space and a list's punctuation are allowed. A file that ends inside a value is an error. Errors
/// use `name`.
void for_each_json_value(TextWindow& window, const std::string& name,
                         const std::function<void(std::string_view value, int64_t line)>& function);

}  // namespace moe
