#pragma once
/// Token ids as people and programs write them.

#include <cstdint>
#include <string_view>
#include <vector>

namespace moe {

/// Ids separated by blanks, commas, brackets or line ends. Anything else is an error that names `source` and the byte.
std::vector<int32_t> parse_token_ids(std::string_view text, std::string_view source);

}  // namespace moe
