#pragma once
/// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing above U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moe {

/// Length of the character at the start of `text` (1-4), or 0 where no valid character starts there.
size_t utf8_length(std::string_view text);

/// Bytes at the start of `text` that are whole valid characters.
size_t utf8_valid_prefix(std::string_view text);

/// Bytes at the end of `text` that begin a character whose rest is still missing (0-3). Bytes that can no longer become
/// a character are not counted.
size_t utf8_incomplete_suffix(std::string_view text);

/// The character at the start of `text`, which must be valid and not empty; advances `text` past it.
char32_t utf8_take(std::string_view& text);

/// The text with U+FFFD for every byte, or longest start of a character, that belongs to no valid character: what
/// people and JSON are given of bytes that may be anything. Valid text comes back as it is.
std::string valid_utf8(std::string_view text);

void utf8_append(std::string& text, char32_t character);

}  // namespace moe
