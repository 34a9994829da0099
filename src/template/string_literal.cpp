#include "template/string_literal.h"

#include "base/utf8.h"
#include "template/syntax_mistake.h"

namespace moe::jinja {
namespace {

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

char32_t hexadecimal(std::string_view literal, size_t& at, size_t digits, int line) {
  char32_t value = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (at >= literal.size() || digit_value(literal[at]) > 15) {
      fail_syntax(line, "an escape in a string needs {} hexadecimal digits", digits);
    }
    value = value * 16 + static_cast<char32_t>(digit_value(literal[at++]));
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
    fail_syntax(line, "an escape in a string is no character");
  return value;
}

// The escape whose letter is at `at`.
void append_escape(std::string_view literal, size_t& at, int line, std::string& out) {
  constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeant = "\a\b\f\n\r\t\v\\'\"";
  const char letter = literal[at++];
  if (const size_t known = kLetters.find(letter); known != std::string_view::npos) {
    out += kMeant[known];
  } else if (letter >= '0' && letter <= '7') {
    char32_t value = static_cast<char32_t>(letter - '0');
    for (int i = 0; i < 2 && at < literal.size() && literal[at] >= '0' && literal[at] <= '7'; ++i) {
      value = value * 8 + static_cast<char32_t>(literal[at++] - '0');
    }
    utf8_append(out, value);
  } else if (letter == 'x') {
    utf8_append(out, hexadecimal(literal, at, 2, line));
  } else if (letter == 'u') {
    utf8_append(out, hexadecimal(literal, at, 4, line));
  } else if (letter == 'U') {
    utf8_append(out, hexadecimal(literal, at, 8, line));
  } else if (letter == 'N') {
    fail_syntax(line, "characters by name (\\N) are not supported; write \\u and four digits");
  } else if (letter != '\n') {
    out += '\\';
    out += letter;
  }
}

}  // namespace

std::string unescaped(std::string_view literal, int line) {
  std::string out;
  for (size_t at = 0; at < literal.size();) {
    const char c = literal[at++];
    if (c == '\\' && at < literal.size()) {
      append_escape(literal, at, line, out);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace moe::jinja
