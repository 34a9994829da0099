#include "tokenizer/graphemes.h"

#include <cstdint>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/grapheme_data.h"

namespace moe {
namespace {

using unicode::GraphemeBreak;
using enum unicode::GraphemeBreak;

/// The value of every code point (grapheme_data.h); 1.1 MB, made at the first use.
const std::vector<uint8_t>& values() {
  static const std::vector<uint8_t> made = [] {
    std::vector<uint8_t> all(0x110000);
    const auto runs = unicode::grapheme_runs();
    for (size_t i = 0; i < runs.size(); ++i) {
      const size_t end = i + 1 < runs.size() ? runs[i + 1] >> 8 : all.size();
      for (size_t c = runs[i] >> 8; c < end; ++c) all[c] = static_cast<uint8_t>(runs[i]);
    }
    return all;
  }();
  return made;
}

struct Character {
  explicit Character(char32_t c) : value(values()[c]), kind(static_cast<GraphemeBreak>(value & unicode::kBreakMask)) {
    constexpr char32_t kFirstSyllable = 0xAC00, kTrailings = 28;
    ends_with_trailing = kind == syllable && (c - kFirstSyllable) % kTrailings != 0;
  }
  bool has(uint8_t bit) const { return (value & bit) != 0; }

  uint8_t value;
  GraphemeBreak kind;
  bool ends_with_trailing;  // of a syllable: LVT
};

/// What the characters of a grapheme so far say about the next one.
class Cluster {
 public:
  explicit Cluster(const Character& first) : last_(first) { note(first); }

  bool joins(const Character& next) const {
    const GraphemeBreak a = last_.kind, b = next.kind;
    if (a == cr) return b == lf;
    if (a == lf || a == control || b == cr || b == lf || b == control) return false;
    if (a == leading && (b == leading || b == vowel || b == syllable)) return true;
    if ((a == vowel || (a == syllable && !last_.ends_with_trailing)) && (b == vowel || b == trailing)) return true;
    if ((a == trailing || a == syllable) && b == trailing) return true;
    if (b == extend || b == joiner || b == spacing || a == prepend) return true;
    if (conjunct_ == Conjunct::linked && next.has(unicode::kConsonant)) return true;
    if (pictograph_ == Pictograph::joined && next.has(unicode::kPictograph)) return true;
    return a == regional && b == regional && regionals_ % 2 == 1;
  }

  void add(const Character& next) {
    last_ = next;
    note(next);
  }

 private:
  enum class Pictograph { none, begun, joined };
  enum class Conjunct { none, begun, linked };

  void note(const Character& c) {
    regionals_ = c.kind == regional ? regionals_ + 1 : 0;
    if (c.has(unicode::kPictograph)) {
      pictograph_ = Pictograph::begun;
    } else if (pictograph_ == Pictograph::begun && c.kind == joiner) {
      pictograph_ = Pictograph::joined;
    } else if (pictograph_ != Pictograph::begun || c.kind != extend) {
      pictograph_ = Pictograph::none;
    }
    if (c.has(unicode::kConsonant)) {
      conjunct_ = Conjunct::begun;
    } else if (conjunct_ != Conjunct::none && c.has(unicode::kLinker)) {
      conjunct_ = Conjunct::linked;
    } else if (!c.has(unicode::kConjunctExtend)) {
      conjunct_ = Conjunct::none;
    }
  }

  Character last_;
  int regionals_ = 0;  // at the end
  Pictograph pictograph_ = Pictograph::none;
  Conjunct conjunct_ = Conjunct::none;
};

}  // namespace

size_t grapheme_length(std::string_view text) {
  std::string_view rest = text;
  Cluster cluster{Character(utf8_take(rest))};
  while (!rest.empty()) {
    std::string_view after = rest;
    const Character next(utf8_take(after));
    if (!cluster.joins(next)) break;
    cluster.add(next);
    rest = after;
  }
  return text.size() - rest.size();
}

}  // namespace moe
