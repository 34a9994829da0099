#include "cli/token_ids.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace moe {

std::vector<int32_t> parse_token_ids(std::string_view text, std::string_view source) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  constexpr size_t kShown = 40;
  std::vector<int32_t> ids;
  for (size_t at = 0; (at = text.find_first_not_of(kBetween, at)) != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    int32_t id = 0;
    const auto result = std::from_chars(text.data() + at, text.data() + end, id);
    if (result.ec != std::errc() || result.ptr != text.data() + end) {
      fail("{}: found {:?} at byte {}, expected a token id", source, text.substr(at, std::min(end - at, kShown)), at);
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

}  // namespace moe
