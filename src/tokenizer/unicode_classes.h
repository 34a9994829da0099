#pragma once
/// Classes of characters, as the `tokenizers` library defines them. Scanners ask for the kind of one character;
/// expressions for PCRE2 get a class as ranges.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/unicode_data.h"

namespace moe::unicode {

/// General categories, and control characters in separate kinds: those that are white space, and the line ends CR and
/// LF. Every character has one kind.
enum Kind : uint8_t {
  Lu,
  Ll,
  Lt,
  Lm,
  Lo,
  Mn,
  Mc,
  Me,
  Nd,
  Nl,
  No,
  Pc,
  Pd,
  Ps,
  Pe,
  Pi,
  Pf,
  Po,
  Sm,
  Sc,
  Sk,
  So,
  Zs,
  Zl,
  Zp,
  Cc,
  Cf,
  Cs,
  Co,
  Cn,
  control_space,
  line_end,
};

/// One bit a kind.
using Kinds = uint32_t;

template <class... Each>
constexpr Kinds kinds(Each... each) {
  return (0u | ... | (Kinds{1} << each));
}

inline constexpr Kinds kLetters = kinds(Lu, Ll, Lt, Lm, Lo);
inline constexpr Kinds kMarks = kinds(Mn, Mc, Me);
inline constexpr Kinds kNumbers = kinds(Nd, Nl, No);
inline constexpr Kinds kPunctuation = kinds(Pc, Pd, Ps, Pe, Pi, Pf, Po);
inline constexpr Kinds kSymbols = kinds(Sm, Sc, Sk, So);
inline constexpr Kinds kLineEnds = kinds(line_end);
/// White_Space of Unicode.
inline constexpr Kinds kSpaces = kinds(Zs, Zl, Zp, control_space, line_end);

/// The kind of every code point up to U+10FFFF, in pages of 256. Equal pages are stored once.
/// Several threads may read it.
class KindTable {
 public:
  KindTable();
  Kind operator[](char32_t c) const { return static_cast<Kind>(pages_[size_t{page_[c >> 8]} << 8 | (c & 0xFF)]); }

 private:
  std::array<uint16_t, 0x1100> page_{};
  std::vector<uint8_t> pages_;
};

const KindTable& kind_table();

using Ranges = std::vector<CodePointRange>;

/// In order. Two ranges never touch.
Ranges ranges_of(Kinds members);
Ranges united(const Ranges& a, const Ranges& b);
Ranges complement(const Ranges& ranges);

/// \w of Oniguruma inside a class: letters, marks, digits and connectors.
Ranges word();
/// \w of Oniguruma outside of classes: also contains six numbers of Latin-1.
Ranges word_outside_class();
/// \w of Rust's regular expressions: also contains the two joiners.
Ranges rust_word();
/// The characters that the library's steps Punctuation and Digits cut out.
Ranges punctuation_step();
Ranges digits_step();

/// The property \p{name}: a general category ("L", "Lu", "letter"), "any", "alphabetic", "lowercase", "uppercase",
/// "ideographic" or a script. `name` is in small letters, without blanks, dashes and underscores. Nothing if it is not
/// known.
std::optional<Ranges> property(std::string_view name);

}  // namespace moe::unicode
