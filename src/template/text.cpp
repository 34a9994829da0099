#include "template/text.h"

#include <algorithm>

#include "base/error.h"
#include "template/case_data.h"
#include "template/meter.h"
#include "tokenizer/unicode_classes.h"

namespace moe::jinja {
namespace {

bool is_kind(char32_t c, unicode::Kinds members) {
  return c <= 0x10FFFF && ((unicode::Kinds{1} << unicode::kind_table()[c]) & members) != 0;
}

bool in_ranges(std::span<const CaseRange> ranges, char32_t c) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), c,
                                      [](char32_t code, const CaseRange& range) { return code < range.first; });
  return after != ranges.begin() && c <= std::prev(after)->last;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

std::vector<std::string_view> split_at_spaces(std::string_view text, int64_t limit) {
  std::vector<std::string_view> pieces;
  text = strip(text, true, false);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(pieces.size()) == limit) {
      pieces.push_back(strip(text, false, true));
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const size_t length = std::max<size_t>(1, utf8_length(text.substr(end)));
      if (is_space(code_point(text.substr(end, length)))) break;
      end += length;
    }
    pieces.push_back(text.substr(0, end));
    text = strip(text.substr(end), true, false);
  }
  return pieces;
}

// The last character of a text that is not empty.
std::string_view last_character(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && text.size() - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  if (utf8_length(text.substr(start)) != text.size() - start) start = text.size() - 1;
  return text.substr(start);
}

std::vector<std::string_view> split_at_spaces_from_right(std::string_view text, int64_t limit) {
  std::vector<std::string_view> pieces;
  text = strip(text, false, true);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(pieces.size()) == limit) {
      pieces.push_back(strip(text, true, false));
      break;
    }
    size_t start = text.size();
    while (start > 0) {
      const std::string_view last = last_character(text.substr(0, start));
      if (is_space(code_point(last))) break;
      start -= last.size();
    }
    pieces.push_back(text.substr(start));
    text = strip(text.substr(0, start), false, true);
  }
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

}  // namespace

size_t code_points(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

size_t byte_of(std::string_view text, size_t index) {
  size_t byte = 0;
  while (index > 0 && byte < text.size()) {
    byte += std::max<size_t>(1, utf8_length(text.substr(byte)));
    --index;
  }
  return byte;
}

std::vector<std::string_view> characters(std::string_view text) {
  need_room(text.size() * sizeof(std::string_view));
  std::vector<std::string_view> result;
  for_each_character(text, [&](std::string_view c) { result.push_back(c); });
  return result;
}

char32_t code_point(std::string_view character) {
  if (utf8_length(character) == 0) return 0xFFFD;
  return utf8_take(character);
}

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alpha(char32_t c) { return is_kind(c, unicode::kLetters); }
bool is_decimal(char32_t c) { return is_kind(c, unicode::kinds(unicode::Nd)); }
bool is_digit(char32_t c) { return is_decimal(c) || in_ranges(digits_beyond_decimals(), c); }
bool is_numeric(char32_t c) { return is_digit(c) || in_ranges(numerics_beyond_digits(), c); }

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  using namespace unicode;
  return !is_kind(c, kinds(Cc, Cf, Cs, Co, Cn, Zl, Zp, Zs, control_space, line_end));
}

std::string_view strip(std::string_view text, bool left, bool right, const std::optional<std::string_view>& chars) {
  const auto goes = [&](std::string_view character) {
    if (!chars) return is_space(code_point(character));
    for (std::string_view rest = *chars; !rest.empty();) {
      const size_t length = std::max<size_t>(1, utf8_length(rest));
      if (rest.substr(0, length) == character) return true;
      rest.remove_prefix(length);
    }
    return false;
  };
  while (left && !text.empty()) {
    const size_t length = std::max<size_t>(1, utf8_length(text));
    if (!goes(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    const std::string_view last = last_character(text);
    if (!goes(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text, const std::optional<std::string_view>& separator,
                                    int64_t limit, bool from_right) {
  spend(text_steps(text.size()));
  if (!separator) return from_right ? split_at_spaces_from_right(text, limit) : split_at_spaces(text, limit);
  if (separator->empty()) fail("empty separator");
  std::vector<std::string_view> pieces;
  while (limit < 0 || static_cast<int64_t>(pieces.size()) < limit) {
    const size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
    if (at == std::string_view::npos) break;
    const std::string_view before = text.substr(0, at), behind = text.substr(at + separator->size());
    pieces.push_back(from_right ? behind : before);
    text = from_right ? before : behind;
  }
  pieces.push_back(text);
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  spend(text_steps(text.size()));
  std::vector<std::string_view> lines;
  size_t start = 0, at = 0;
  while (at < text.size()) {
    const size_t length = std::max<size_t>(1, utf8_length(text.substr(at)));
    const char32_t c = code_point(text.substr(at, length));
    size_t next = at + length;
    if (is_line_end(c)) {
      if (c == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back(text.substr(start, (keep_ends ? next : at) - start));
      start = next;
    }
    at = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string replaced(std::string_view text, std::string_view old, std::string_view by, int64_t limit) {
  spend(text_steps(text.size()));
  const auto allowed = [&](size_t count) { return limit < 0 || static_cast<int64_t>(count) < limit; };
  std::string result;
  if (old.empty()) {  // between all characters, and at both ends
    const size_t places = code_points(text) + 1;
    need_room(text.size() + by.size() * (limit < 0 ? places : std::min<size_t>(places, static_cast<size_t>(limit))));
    size_t count = 0;
    for_each_character(text, [&](std::string_view c) {
      if (allowed(count)) result += by, ++count;
      result += c;
    });
    if (allowed(count)) result += by;
    return result;
  }
  size_t start = 0;
  for (size_t count = 0; allowed(count); ++count) {
    const size_t at = text.find(old, start);
    if (at == std::string_view::npos) break;
    need_room(result.size() + at - start + by.size());
    result.append(text, start, at - start);
    result += by;
    start = at + old.size();
  }
  result.append(text, start);
  return result;
}

std::string html_escaped(std::string_view text) {
  need_room(text.size() * 2);
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '"':
        result += "&#34;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace moe::jinja
