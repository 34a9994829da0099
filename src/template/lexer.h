#pragma once
/// A template's source as tokens, with the white space rules of transformers: a line end behind a block is dropped
/// (trim_blocks), and so is white space between a line's begin and a block (lstrip_blocks); `-` and `+` beside a
/// delimiter say otherwise. Comments are gone, raw blocks are data, the source's last line end does not count.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace moe::jinja {

enum class Token : uint8_t {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  real,
  symbol,
  end
};

struct LexedToken {
  Token kind;
  int line = 1;
  std::string text = {};  // data, names and symbols as they stand; strings without quotes and escapes
  int64_t integer = 0;
  double real = 0;
};

/// A template that cannot be parsed: a sentence without the line, and the line, counted from 1.
class SyntaxMistake : public Error {
 public:
  SyntaxMistake(int at, const std::string& reason) : Error(reason), line(at) {}
  int line;
};

template <class... Args>
[[noreturn]] void fail_syntax(int line, fmt::format_string<Args...> format, Args&&... args) {
  throw SyntaxMistake(line, fmt::format(format, std::forward<Args>(args)...));
}

/// The last token is `end`. Throws SyntaxMistake.
std::vector<LexedToken> lex(std::string_view source);

}  // namespace moe::jinja
