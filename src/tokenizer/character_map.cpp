#include "tokenizer/character_map.h"

#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/graphemes.h"

namespace moe {
namespace {

static_assert(std::endian::native == std::endian::little, "the trie is read without swapping bytes");

// Parts of a unit of the trie. The unit at the place of a leaf has kIsValue, and the rest is the place of a text.
constexpr uint32_t kIsValue = uint32_t{1} << 31, kHasLeaf = uint32_t{1} << 8;
constexpr size_t kMostMatches = 32;  // SentencePiece looks at no more

size_t offset_of(uint32_t unit) { return size_t{unit >> 10} << ((unit & uint32_t{1} << 9) >> 6); }

}  // namespace

CharacterMap::CharacterMap(std::string_view bytes, const std::string& name) : name_(name) {
  uint32_t size = 0;
  if (bytes.size() >= sizeof size) std::memcpy(&size, bytes.data(), sizeof size);
  if (size < sizeof(uint32_t) || size % sizeof(uint32_t) != 0 || size > bytes.size() - sizeof size) {
    fail("{}: the map of characters has {} bytes, expected the size of its trie, the trie and the texts", name_,
         bytes.size());
  }
  units_.resize(size / sizeof(uint32_t));
  std::memcpy(units_.data(), bytes.data() + sizeof size, size);
  texts_ = bytes.substr(sizeof size + size);
  if (utf8_valid_prefix(texts_) != texts_.size()) fail("{}: the texts of the map of characters are not UTF-8", name_);
}

CharacterMap::Match CharacterMap::match(size_t length, uint32_t unit) const {
  const size_t begin = unit & ~kIsValue;
  if (begin > texts_.size()) {
    fail("{}: the map of characters is damaged: it names a text at byte {} of {}", name_, begin, texts_.size());
  }
  const std::string_view rest = std::string_view(texts_).substr(begin);
  return {length, rest.substr(0, rest.find('\0'))};
}

/// Calls f(length, unit of the value) for each sequence at the start of `text`, the shortest first, until f returns
/// false.
template <class F>
void CharacterMap::for_each_match(std::string_view text, F&& f) const {
  size_t at = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || (units_[at] & (kIsValue | 0xFF)) != byte) return;
    const uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if ((unit & kHasLeaf) != 0 && (at >= units_.size() || !f(i + 1, units_[at]))) return;
  }
}

std::optional<CharacterMap::Match> CharacterMap::longest(std::string_view text) const {
  std::optional<Match> found;
  size_t matches = 0;
  for_each_match(text, [&](size_t length, uint32_t unit) {
    found = match(length, unit);
    return ++matches < kMostMatches;
  });
  return found;
}

std::optional<CharacterMap::Match> CharacterMap::shortest(std::string_view text) const {
  std::optional<Match> found;
  for_each_match(text, [&](size_t length, uint32_t unit) {
    found = match(length, unit);
    return false;
  });
  return found;
}

std::string CharacterMap::apply_to_graphemes(std::string_view text) const {
  constexpr size_t kMostBytes = 5;
  std::string out;
  out.reserve(text.size());
  const auto replace = [&](std::string_view part) {
    const auto found = shortest(part);
    if (found) out += found->replacement;
    return found.has_value();
  };
  while (!text.empty()) {
    std::string_view valid = text.substr(0, utf8_valid_prefix(text));
    text.remove_prefix(valid.size());
    while (!valid.empty()) {
      const std::string_view grapheme = valid.substr(0, grapheme_length(valid));
      valid.remove_prefix(grapheme.size());
      if (grapheme.size() <= kMostBytes && replace(grapheme)) continue;
      for (std::string_view rest = grapheme; !rest.empty(); rest.remove_prefix(utf8_length(rest))) {
        const std::string_view character = rest.substr(0, utf8_length(rest));
        if (!replace(character)) out += character;
      }
    }
    while (!text.empty() && utf8_length(text) == 0) {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

}  // namespace moe
