#include "base/printable.h"

#include "base/utf8.h"

namespace moe {

std::string printable(std::string_view text, std::string_view kept) {
  const std::string valid = valid_utf8(text);
  std::string out;
  out.reserve(valid.size());
  for (std::string_view rest = valid; !rest.empty();) {
    const char32_t code = utf8_take(rest);
    const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x2028 || code == 0x2029;
    const bool stays = code < 0x80 && kept.find(static_cast<char>(code)) != std::string_view::npos;
    utf8_append(out, control && !stays ? 0xFFFD : code);
  }
  return out;
}

}  // namespace moe
