#include "data/scored_text.h"

#include <algorithm>
#include <string>
#include <vector>

namespace moe {
namespace {

// The bytes of a normalized text up to the end of its first token.
size_t first_token_end(std::string_view text, std::string_view token) {
  if (text.starts_with(token)) return token.size();
  if (token.starts_with(' ') && text.starts_with(token.substr(1))) return token.size() - 1;
  // Some tokenizers drop white space. What was dropped before the first token is not scored either.
  const size_t blanks = std::min(text.find_first_not_of(" \t\r\n\f\v"), text.size());
  const std::string_view bare = token.substr(std::min(token.find_first_not_of(' '), token.size()));
  if (text.substr(blanks).starts_with(bare)) return blanks + bare.size();
  return std::min(token.size(), text.size());
}

bool is_inside_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

std::vector<size_t> character_ends(std::string_view text) {
  std::vector<size_t> ends;
  for (size_t end = 1; end <= text.size(); ++end) {
    if (end == text.size() || !is_inside_character(text[end])) ends.push_back(end);
  }
  return ends;
}

// The bytes of `text` that the first `count` bytes of the normalized text come from: those of its shortest beginning
// that gives their characters. The bytes that it gives beyond them count as its own last bytes.
size_t bytes_before(std::string_view text, std::string_view normalized, size_t count, const Tokenizer& tokenizer) {
  if (normalized == text) return count;
  size_t whole = count;
  while (whole < normalized.size() && is_inside_character(normalized[whole])) ++whole;
  const std::string_view wanted = normalized.substr(0, whole);
  const std::vector<size_t> ends = character_ends(text);
  const auto first = std::partition_point(ends.begin(), ends.end(), [&](size_t end) {
    return !std::string_view(tokenizer.normalized(text.substr(0, end))).starts_with(wanted);
  });
  if (first == ends.end()) return text.size();
  const size_t before = first == ends.begin() ? 0 : *(first - 1);
  const size_t beyond = tokenizer.normalized(text.substr(0, *first)).size() - count;
  return std::max(before, *first - std::min(beyond, *first));
}

// The bytes of `text` up to the end of its first token. Most of the time its beginning is enough to tell.
size_t first_token_bytes(std::string_view text, std::string_view token, const Tokenizer& tokenizer) {
  for (size_t size = 1024 + 4 * token.size();; size *= 4) {
    const std::string_view beginning = text.substr(0, size);
    const std::string normalized = tokenizer.normalized(beginning);
    const size_t end = first_token_end(normalized, token);
    // Text after the end of the beginning can change no more than the last few characters of its normal form.
    if (beginning.size() < text.size() && normalized.size() < end + 256) continue;
    return end == 0 ? 0 : bytes_before(beginning, normalized, end, tokenizer);
  }
}

}  // namespace

int64_t scored_bytes(std::string_view text, std::span<const int32_t> ids, const Tokenizer& tokenizer) {
  if (ids.empty()) return 0;
  if (tokenizer.bos()) return static_cast<int64_t>(text.size());
  return static_cast<int64_t>(text.size() - first_token_bytes(text, tokenizer.token_bytes(ids.front()), tokenizer));
}

}  // namespace moe
