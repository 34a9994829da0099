#pragma once
/// SentencePiece's map of characters ("precompiled_charsmap"): sequences of bytes and the texts that replace them. It
/// is a double array trie (the layout of darts-clone) and the texts, each ended by a zero byte.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Several threads may read it.
class CharacterMap {
 public:
  /// The bytes of a map. Errors call it `name`.
  CharacterMap(std::string_view bytes, const std::string& name);

  struct Match {
    size_t length;  // bytes of the text that are replaced
    std::string_view replacement;
  };
  /// The longest sequence at the start of `text`, as SentencePiece takes it.
  std::optional<Match> longest(std::string_view text) const;
  /// The shortest, as the `tokenizers` library takes it.
  std::optional<Match> shortest(std::string_view text) const;

  /// The text as the library's normalizer Precompiled changes it: each grapheme of at most five bytes is looked up as a
  /// whole, then every character. A sequence stands for all that is looked up, even if it is only the beginning of it.
  /// Bytes that are no character stay.
  std::string apply_to_graphemes(std::string_view text) const;

 private:
  template <class F>
  void for_each_match(std::string_view text, F&& f) const;
  Match match(size_t length, uint32_t unit) const;

  std::string name_;
  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace moe
