#include "data/scored_text.h"

#include <algorithm>

namespace moe {
namespace {

// The bytes of the text up to the end of its first token.
size_t first_token_end(std::string_view text, std::string_view token) {
  if (text.starts_with(token)) return token.size();
  if (token.starts_with(' ') && text.starts_with(token.substr(1))) return token.size() - 1;
  // Some tokenizers drop white space. What was dropped before the first token is not scored either.
  const size_t blanks = std::min(text.find_first_not_of(" \t\r\n\f\v"), text.size());
  const std::string_view bare = token.substr(std::min(token.find_first_not_of(' '), token.size()));
  if (text.substr(blanks).starts_with(bare)) return blanks + bare.size();
  return std::min(token.size(), text.size());
}

}  // namespace

int64_t scored_bytes(std::string_view text, std::span<const int32_t> ids, const Tokenizer& tokenizer) {
  if (ids.empty()) return 0;
  if (tokenizer.bos()) return static_cast<int64_t>(text.size());
  return static_cast<int64_t>(text.size() - first_token_end(text, tokenizer.token_bytes(ids.front())));
}

}  // namespace moe
