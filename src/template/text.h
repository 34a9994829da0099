#pragma once
/// Text as in Python: indices count code points; white space, digits and letters are those of Python's str.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace moe::jinja {

size_t code_points(std::string_view text);

/// The byte where the code point with that index begins; the text's size if there are fewer code points.
size_t byte_of(std::string_view text, size_t index);

/// Visits each code point as its bytes. A byte that belongs to no character counts as one code point.
template <class Visit>
void for_each_character(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const size_t length = std::max<size_t>(1, utf8_length(text));
    visit(text.substr(0, length));
    text.remove_prefix(length);
  }
}

std::vector<std::string_view> characters(std::string_view text);

/// The code point of these bytes.
char32_t code_point(std::string_view character);

bool is_space(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
inline bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c) || is_digit(c) || is_decimal(c); }
/// True if repr() shows the character itself.
bool is_printable(char32_t c);

/// Without white space, or without the characters of `chars`, at the chosen ends.
std::string_view strip(std::string_view text, bool left, bool right,
                       const std::optional<std::string_view>& chars = std::nullopt);

/// The pieces between `separator` or, without one, between runs of white space. At most `limit` cuts, from the left or
/// from the right; negative: no limit.
std::vector<std::string_view> split(std::string_view text, const std::optional<std::string_view>& separator,
                                    int64_t limit, bool from_right);

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

/// The text with `old` replaced, at most `limit` times (negative: everywhere).
std::string replaced(std::string_view text, std::string_view old, std::string_view by, int64_t limit);

/// With & < > ' " written as HTML entities.
std::string html_escaped(std::string_view text);

}  // namespace moe::jinja
