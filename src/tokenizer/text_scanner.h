#pragma once
/// Reads characters and runs of characters from valid UTF-8, for hand-written matchers of expressions.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <emmintrin.h>

#include "tokenizer/unicode_classes.h"

namespace moe {

/// Kinds of the first 128 characters.
inline constexpr std::array<uint8_t, 128> kAsciiKinds = [] {
  using namespace unicode;
  std::array<uint8_t, 128> kinds{};
  for (size_t c = 0; c < 128; ++c) kinds[c] = c < ' ' || c == 127 ? Cc : Po;
  for (size_t c = '0'; c <= '9'; ++c) kinds[c] = Nd;
  for (size_t c = 'a'; c <= 'z'; ++c) kinds[c] = Ll;
  for (size_t c = 'A'; c <= 'Z'; ++c) kinds[c] = Lu;
  for (const char c : {'\t', '\v', '\f'}) kinds[static_cast<size_t>(c)] = control_space;
  kinds['\r'] = kinds['\n'] = line_end;
  kinds[' '] = Zs;
  for (const char c : {'<', '>', '+', '=', '|', '~'}) kinds[static_cast<size_t>(c)] = Sm;
  for (const char c : {'(', '[', '{'}) kinds[static_cast<size_t>(c)] = Ps;
  for (const char c : {')', ']', '}'}) kinds[static_cast<size_t>(c)] = Pe;
  kinds['$'] = Sc;
  kinds['^'] = kinds['`'] = Sk;
  kinds['_'] = Pc;
  kinds['-'] = Pd;
  return kinds;
}();

/// A text and the tables for reading it. Positions are pointers into it. Several threads may read it.
class TextScanner {
 public:
  using Position = const uint8_t*;

  TextScanner(Position end) : end_(end), kinds_(unicode::kind_table()) {}

  Position end() const { return end_; }

  struct Character {
    char32_t code;
    uint32_t length;
  };

  Character character(Position at) const {
    const uint32_t a = at[0];
    if (a < 0x80) return {a, 1};
    if (a < 0xE0) return {(a & 0x1F) << 6 | (at[1] & 0x3Fu), 2};
    if (a < 0xF0) return {(a & 0x0F) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu), 3};
    return {(a & 0x07) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu), 4};
  }

  unicode::Kind kind(char32_t c) const { return c < 0x80 ? static_cast<unicode::Kind>(kAsciiKinds[c]) : kinds_[c]; }

  static constexpr bool has(unicode::Kinds set, unicode::Kind kind) { return set >> kind & 1; }

  /// True if a character of `set` starts at `at`.
  bool is(unicode::Kinds set, Position at) const { return at < end_ && has(set, kind(character(at).code)); }

  /// The end of the characters of `set` that start at `at`.
  template <unicode::Kinds set>
  Position run(Position at) const {
    if constexpr ((set & unicode::kLetters) == unicode::kLetters && !(set & unicode::kinds(unicode::Nd))) {
      if (end_ - at >= 16) {
        const size_t letters = ascii_letters(at);
        at += letters;
        if (letters < 16 && *at < 0x80 && !has(set, static_cast<unicode::Kind>(kAsciiKinds[*at]))) return at;
      }
    }
    while (at < end_) {
      if (*at < 0x80) {
        if (!has(set, static_cast<unicode::Kind>(kAsciiKinds[*at]))) return at;
        ++at;
      } else {
        const Character c = character(at);
        if (!has(set, kinds_[c.code])) return at;
        at += c.length;
      }
    }
    return at;
  }

  /// The same for the characters that `is_member(code point, kind)` accepts.
  template <class IsMember>
  Position run_of(Position at, IsMember is_member) const {
    while (at < end_) {
      const Character c = character(at);
      if (!is_member(c.code, kind(c.code))) return at;
      at += c.length;
    }
    return at;
  }

  /// At most `count` characters of `set`.
  template <unicode::Kinds set>
  Position at_most(Position at, int count) const {
    for (; count > 0 && at < end_; --count) {
      const Character c = character(at);
      if (!has(set, kind(c.code))) return at;
      at += c.length;
    }
    return at;
  }

  /// The start of the character before `at`; there must be one.
  static Position before(Position at) {
    do --at;
    while ((*at & 0xC0) == 0x80);
    return at;
  }

 private:
  // The number of ASCII letters among the 16 bytes at `at`, up to the first other byte.
  static size_t ascii_letters(Position at) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i small = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
    const __m128i place = _mm_sub_epi8(small, _mm_set1_epi8('a'));
    const __m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(place, _mm_set1_epi8(25)), place);
    return static_cast<size_t>(std::countr_one(static_cast<uint32_t>(_mm_movemask_epi8(is_letter))));
  }

  Position end_;
  const unicode::KindTable& kinds_;
};

}  // namespace moe
