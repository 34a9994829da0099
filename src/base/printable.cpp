#include "base/printable.h"

#include <fmt/format.h>

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

std::string shortened(std::string_view text) {
  constexpr size_t kMost = 10000, kKept = 1000;
  std::string out;
  for (bool more = true; more;) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.size() <= kMost) {
      out += line;
    } else {
      // A character that is cut in two becomes U+FFFD.
      out += valid_utf8(line.substr(0, kKept)) + fmt::format(" ... ({} bytes left out) ... ", line.size() - 2 * kKept) +
             valid_utf8(line.substr(line.size() - kKept));
    }
    more = end != std::string_view::npos;
    if (more) out += '\n', text.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace moe
