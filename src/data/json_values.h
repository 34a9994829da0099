#pragma once
/// The documents of a .json file: the elements of a list, or values one after the other.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "data/text_window.h"

namespace moe {

/// Calls `function` with the text of each value and the number of the line on which it begins, in order; memory holds
/// one value. Only where values end is looked at, by brackets and quotes: what is inside is the caller's to parse. What
/// stands between values and is neither white space nor a list's punctuation is an error, and so is a file that ends
/// inside one; errors say `name`.
void for_each_json_value(TextWindow& window, const std::string& name,
                         const std::function<void(std::string_view value, int64_t line)>& function);

}  // namespace moe
