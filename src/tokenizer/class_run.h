#pragma once
/// Matches expressions of one character class: \p{N}, \p{N}{1,3}, \s?[a-z]+, \s+$, and the like.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/text_scanner.h"
#include "tokenizer/unicode_classes.h"

namespace moe {

/// A set of code points, in pages of 256 bits. Equal pages are stored once. Several threads may read it.
class CharacterSet {
 public:
  explicit CharacterSet(const unicode::Ranges& ranges);

  bool contains(char32_t c) const { return pages_[size_t{page_[c >> 8]} * 4 + (c >> 6 & 3)] >> (c & 63) & 1; }

 private:
  std::array<uint16_t, 0x1100> page_{};
  std::vector<uint64_t> pages_;
};

struct ClassRun {
  using Position = TextScanner::Position;
  static constexpr uint32_t kAny = UINT32_MAX;

  CharacterSet members;
  uint32_t most = kAny;       // the largest number of characters in a match
  bool space_before = false;  // white space may come before them
  bool ends_line = false;     // the match ends at the end of a line

  /// The end of the match at `at`; nullptr if there is none.
  Position match(const TextScanner& text, Position at) const {
    if (space_before && text.is(unicode::kSpaces, at)) {
      const Position second = at + text.character(at).length;
      if (const Position end = run(text, second); end > second) return end;
    }
    const Position end = run(text, at);
    if (end == at) return nullptr;
    return ends_line ? last_line_end(text, at, end) : end;
  }

 private:
  Position run(const TextScanner& text, Position at) const {
    for (uint32_t count = most; count > 0 && at < text.end(); --count) {
      const TextScanner::Character c = text.character(at);
      if (!members.contains(c.code)) return at;
      at += c.length;
    }
    return at;
  }

  // A line ends before each LF and at the end of the text.
  static Position last_line_end(const TextScanner& text, Position begin, Position end) {
    if (end == text.end() || *end == '\n') return end;
    for (Position at = end - 1; at > begin; --at) {
      if (*at == '\n') return at;
    }
    return nullptr;
  }
};

/// The expression as a ClassRun; nothing if it has another form.
std::optional<ClassRun> parse_class_run(std::string_view expression);

}  // namespace moe
