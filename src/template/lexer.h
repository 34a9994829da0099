#pragma once
/// Turns a template's source into tokens, with the white space rules of transformers. A line end after a block is
/// dropped (trim_blocks), and so is white space between the beginning of a line and a block (lstrip_blocks); `-` and
/// `+` beside a delimiter change this. Comments are removed, raw blocks are data, and the last line end of the source
/// does not count.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "template/syntax_mistake.h"

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
  std::string text = {};  // data, names and symbols unchanged; strings without quotes and escapes
  int64_t integer = 0;
  double real = 0;
};

/// The last token is `end`. Throws SyntaxMistake.
std::vector<LexedToken> lex(std::string_view source);

}  // namespace moe::jinja
