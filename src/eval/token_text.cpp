#include "eval/token_text.h"

#include <fmt/format.h>

#include "base/utf8.h"

namespace moe {
namespace {

bool is_control(std::string_view character) {
  const char32_t code = utf8_take(character);
  return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

void append_hexadecimal(std::string& text, std::string_view bytes) {
  for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
}

void append_readable(std::string& text, std::string_view character) {
  switch (character[0]) {
    case '\n':
      text += "\\n";
      return;
    case '\t':
      text += "\\t";
      return;
    case '\r':
      text += "\\r";
      return;
    case '\\':
      text += "\\\\";
      return;
  }
  if (is_control(character)) return append_hexadecimal(text, character);
  text += character;
}

}  // namespace

std::string readable(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t length = utf8_length(bytes);
    if (length == 0) {
      append_hexadecimal(text, bytes.substr(0, 1));
    } else {
      append_readable(text, bytes.substr(0, length));
    }
    bytes.remove_prefix(length == 0 ? 1 : length);
  }
  return text;
}

std::string readable_token(const Tokenizer& tokenizer, int32_t id) {
  return tokenizer.has_token(id) ? readable(tokenizer.token_bytes(id)) : "";
}

}  // namespace moe
