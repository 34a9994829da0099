#include "tokenizer/added_tokens.h"

#include <utility>

#include "base/utf8.h"

namespace moe {
namespace {

/// The character that ends right before byte `end`; empty if there is none.
std::string_view character_before(std::string_view text, size_t end) {
  for (size_t length = 1; length <= std::min<size_t>(4, end); ++length) {
    const std::string_view candidate = text.substr(end - length, length);
    if (utf8_length(candidate) == length) return candidate;
  }
  return {};
}

std::string_view character_at(std::string_view text, size_t begin) {
  return text.substr(begin, utf8_length(text.substr(begin)));
}

bool is_white_space(std::string_view character) {
  return !character.empty() && unicode::kSpaces >> unicode::kind_table()[utf8_take(character)] & 1;
}

}  // namespace

bool is_all_blank(std::string_view text) {
  while (is_white_space(character_at(text, 0))) utf8_take(text);
  return text.empty();
}

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t index = 0; index < tokens_.size(); ++index) {
    uint32_t node = 0;
    for (const char byte : tokens_[index].content) {
      const uint64_t key = uint64_t{node} << 8 | static_cast<uint8_t>(byte);
      const auto [child, added] = children_.try_emplace(key, static_cast<uint32_t>(token_at_.size()));
      if (added) token_at_.push_back(-1);
      node = child->second;
    }
    if (token_at_[node] < 0) token_at_[node] = static_cast<int32_t>(index);
    starts_[static_cast<uint8_t>(tokens_[index].content[0])] = true;
    all_special_ = all_special_ && tokens_[index].special;
  }
}

bool AddedTokenMatcher::find(std::string_view text, size_t from, Found& found) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<uint8_t>(text[begin])]) continue;
    int32_t longest = -1;
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto child = children_.find(uint64_t{node} << 8 | static_cast<uint8_t>(text[at]));
      if (child == children_.end()) break;
      node = child->second;
      if (token_at_[node] < 0) continue;
      longest = token_at_[node];
      found = {begin, at + 1, static_cast<size_t>(longest)};
    }
    if (longest >= 0) return true;
  }
  return false;
}

bool AddedTokenMatcher::stands_alone(const AddedToken& token, std::string_view text, const Found& found) const {
  if (!token.single_word) return true;
  static const CharacterSet kWord(unicode::rust_word());
  const auto is_word = [](std::string_view character) {
    return !character.empty() && kWord.contains(utf8_take(character));
  };
  return !is_word(character_before(text, found.begin)) && !is_word(character_at(text, found.end));
}

size_t AddedTokenMatcher::blank_start(std::string_view text, size_t end) {
  for (;;) {
    const std::string_view character = character_before(text, end);
    if (!is_white_space(character)) return end;
    end -= character.size();
  }
}

size_t AddedTokenMatcher::blank_end(std::string_view text, size_t begin) {
  for (;;) {
    const std::string_view character = character_at(text, begin);
    if (!is_white_space(character)) return begin;
    begin += character.size();
  }
}

}  // namespace moe
