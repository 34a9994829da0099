#pragma once
/// Names that other people chose, as text for people.

#include <string>
#include <string_view>

namespace moe {

/// The text as valid UTF-8 without control characters: U+FFFD replaces them and bytes that are no character. So a name
/// cannot break a line, move the cursor of a terminal or colour it. The control characters in `kept` stay.
std::string printable(std::string_view text, std::string_view kept = {});

/// The text with the middle of every line above 10,000 bytes left out, and its size said instead. For errors that quote
/// a word of any length.
std::string shortened(std::string_view text);

}  // namespace moe
