#pragma once
/// UTF-8 as the Unicode standard defines it: without overlong forms, surrogates, and values above U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moe {

/// Length of the character at the start of `text` (1-4); 0 if no valid character starts there.
size_t utf8_length(std::string_view text);

/// Number of bytes at the start of `text` that form whole valid characters.
size_t utf8_valid_prefix(std::string_view text);

/// Number of bytes at the end of `text` that begin a character whose rest is missing (0-3). Bytes that cannot become a
/// character are not counted.
size_t utf8_incomplete_suffix(std::string_view text);

/// The character at the start of `text`, which must be valid and not empty; advances `text` past it.
char32_t utf8_take(std::string_view& text);

/// The text with U+FFFD in the place of invalid bytes: one for each byte, or for the longest start of a character, that
/// belongs to no valid character. People and JSON receive arbitrary bytes in this form. Valid text is returned
/// unchanged.
std::string valid_utf8(std::string_view text);

void utf8_append(std::string& text, char32_t character);

}  // namespace moe
