#pragma once
/// The documents of a .json file: the elements of a list, or values that follow each other.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "data/text_window.h"

namespace moe {

/// A value of the file, or a mistake between values.
struct JsonPart {
  std::string_view value = {};  ///< its text; valid during the call
  int64_t line = 0;             ///< its first line
  std::string mistake = {};     ///< one sentence with file and line; then there is no value
};

/// Calls `function` for each value and each mistake, in order. Memory holds one value. This function only looks for the
/// ends of values, by brackets and quotes; the caller parses what is inside, and decides which kinds of values it
/// accepts. Between values, only white space and a list's punctuation are allowed. After a mistake in the punctuation
/// the next value is read. A value that lacks a bracket ends where its brackets show it (JsonNesting). After a line
/// that ends inside a string, and after a value that the rest of the file could belong to, reading goes on with the
/// next line that begins as that value's line did, with the same bracket or quote in the same column. Nothing is read
/// after a list, nor after another value that has no end.
void for_each_json_value(TextWindow& window, const std::function<void(const JsonPart&)>& function);

}  // namespace moe
