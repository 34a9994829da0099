#pragma once
/// Hand-written matchers for the expressions of published tokenizers. Each has one function, match(text, at). It
/// returns the end of the leftmost alternative that matches at `at`, or nullptr if none matches. The results equal
/// those of a backtracking engine. The comments list the alternatives in order.

#include "tokenizer/text_scanner.h"

namespace moe::expressions {

using Position = TextScanner::Position;
using namespace unicode;

/// \s*[\r\n]+|\s+(?!\S)|\s+ : white space up to its last line end, or all white space except the character before a
/// word. `at` is white space.
template <bool line_ends_first>
Position white_space(const TextScanner& text, Position at) {
  const Position end = text.run<kSpaces>(at);
  if constexpr (line_ends_first) {
    for (Position last = end; last > at; --last) {
      if (last[-1] == '\n' || last[-1] == '\r') return last;
    }
  }
  if (end == text.end()) return end;
  const Position last = TextScanner::before(end);
  return last > at ? last : end;
}

/// 's|'t|'re|'ve|'m|'ll|'d at `at`, in any case if `any_case`; returns `at` if there is none. The long s then counts as
/// s.
template <bool any_case>
Position contraction(const TextScanner& text, Position at) {
  if (at == text.end() || *at != '\'' || text.end() - at < 2) return at;
  const auto letter = [&](size_t i) { return any_case && at[i] < 0x80 ? at[i] | 0x20 : at[i]; };
  const auto first = letter(1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if (text.end() - at < 3) return at;
  const auto second = letter(2);
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (any_case && at[1] == 0xC5 && at[2] == 0xBF) return at + 3;
  return at;
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
struct Gpt2 {
  static Position match(const TextScanner& text, Position at) {
    if (*at == '\'') {
      if (const Position end = contraction<false>(text, at); end > at) return end;
    }
    const Position word = at + (*at == ' ');
    if (word == text.end()) return word;
    const Kind kind = text.kind(text.character(word).code);
    if (TextScanner::has(kLetters, kind)) return text.run<kLetters>(word);
    if (TextScanner::has(kNumbers, kind)) return text.run<kNumbers>(word);
    if (!TextScanner::has(kSpaces, kind)) return text.run<~(kSpaces | kLetters | kNumbers)>(word);
    return white_space<false>(text, at);
  }
};

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// with `digits` in the place of 3 (Llama 3, GPT-4; Qwen2 has 1).
template <int digits>
struct Llama3 {
  static Position match(const TextScanner& text, Position at) {
    if (*at == '\'') {
      if (const Position end = contraction<true>(text, at); end > at) return end;
    }
    const TextScanner::Character first = text.character(at);
    const Kind kind = text.kind(first.code);
    if (TextScanner::has(kLetters, kind)) return text.run<kLetters>(at);
    if (TextScanner::has(kNumbers, kind)) return text.at_most<kNumbers>(at, digits);
    const Position second = at + first.length;
    if (kind != line_end && text.is(kLetters, second)) return text.run<kLetters>(second);
    constexpr Kinds kOther = ~(kSpaces | kLetters | kNumbers);
    if (TextScanner::has(kOther, kind) || (*at == ' ' && text.is(kOther, second))) {
      return text.run<kLineEnds>(text.run<kOther>(second));
    }
    return white_space<true>(text, at);
  }
};

/// [^\r\n\p{L}\p{N}]?U*V+C?|[^\r\n\p{L}\p{N}]?U+V*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// where U is [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], V is [\p{Ll}\p{Lm}\p{Lo}\p{M}], C is (?i:'s|'t|'re|'ve|'m|'ll|'d)
/// (o200k).
struct O200k {
  static constexpr Kinds kUpper = kinds(Lu, Lt, Lm, Lo) | kMarks;
  static constexpr Kinds kLower = kinds(Ll, Lm, Lo) | kMarks;

  static Position match(const TextScanner& text, Position at) {
    const TextScanner::Character first = text.character(at);
    const Kind kind = text.kind(first.code);
    const Position second = at + first.length;
    if (TextScanner::has(kNumbers, kind)) return text.at_most<kNumbers>(at, 3);
    const bool is_letter = TextScanner::has(kLetters, kind);
    if (is_letter || kind != line_end) {
      // The optional character is taken if a word follows it. A mark is a word by itself, which comes before U+V*.
      const Position word = is_letter ? at : second;
      Position end = with_lower(text, word);
      if (end == nullptr && TextScanner::has(kMarks, kind)) end = second;
      if (end == nullptr) {
        const Position upper = text.run<kUpper>(word);
        if (upper > word) end = upper;
      }
      if (end != nullptr) return contraction<true>(text, end);
    }
    constexpr Kinds kOther = ~(kSpaces | kLetters | kNumbers);
    if (TextScanner::has(kOther, kind) || (*at == ' ' && text.is(kOther, second))) {
      return text.run_of(text.run<kOther>(second), [](char32_t c, Kind) { return c == '\r' || c == '\n' || c == '/'; });
    }
    return white_space<true>(text, at);
  }

  /// U*V+; nullptr if it does not match.
  static Position with_lower(const TextScanner& text, Position at) {
    const Position upper = text.run<kUpper>(at);
    const Position lower = text.run<kLower>(upper);
    if (lower > upper) return lower;
    // V+ takes back the last character of U* that belongs to both, and nothing after it.
    for (Position end = upper; end > at;) {
      const Position last = TextScanner::before(end);
      if (text.is(kLower, last)) return end;
      end = last;
    }
    return nullptr;
  }
};

/// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+ (DeepSeek-V3, after numbers and Chinese were cut out). It leaves characters out.
struct DeepseekV3 {
  static Position match(const TextScanner& text, Position at) {
    const TextScanner::Character first = text.character(at);
    const Kind kind = text.kind(first.code);
    const Position second = at + first.length;
    constexpr Kinds kMarkedOff = kPunctuation | kSymbols;
    const bool marked_off = TextScanner::has(kMarkedOff, kind);
    if (marked_off && first.code < 0x80) {
      const Position end = text.run_of(second, [](char32_t c, Kind) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; });
      if (end > second) return end;
    }
    constexpr Kinds kWord = kLetters | kMarks;
    if (TextScanner::has(kLetters, kind)) return text.run<kWord>(at);
    if (!marked_off && kind != line_end) {
      if (text.is(kWord, second)) return text.run<kWord>(second);
      if (TextScanner::has(kMarks, kind)) return second;
    }
    if (marked_off || (*at == ' ' && text.is(kMarkedOff, second))) {
      return text.run<kLineEnds>(text.run<kMarkedOff>(second));
    }
    return TextScanner::has(kSpaces, kind) ? white_space<true>(text, at) : nullptr;
  }
};

/// The expression of the tokenizers that this program trains (trainer.h): \p{N}|H+|
/// [^\r\n\p{L}\p{M}\p{N}]?(?:[^\P{L}H]|\p{M})+| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// where H is [一-鿿㐀-䶿豈-﫿぀-ヿ々〆]. Its third range begins at U+8C48, so that Hangul and private use
/// are in H too.
struct Trained {
  static constexpr bool is_chinese(char32_t c) {
    return (c >= 0x4E00 && c <= 0xFAFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x3040 && c <= 0x30FF) ||
           c == 0x3005 || c == 0x3006;
  }
  static bool is_word(char32_t c, Kind kind) {
    return TextScanner::has(kMarks, kind) || (TextScanner::has(kLetters, kind) && !is_chinese(c));
  }

  static Position match(const TextScanner& text, Position at) {
    const TextScanner::Character first = text.character(at);
    const Kind kind = text.kind(first.code);
    const Position second = at + first.length;
    if (TextScanner::has(kNumbers, kind)) return second;
    if (is_chinese(first.code)) return text.run_of(second, [](char32_t c, Kind) { return is_chinese(c); });
    if (TextScanner::has(kLetters | kMarks, kind)) return text.run_of(second, is_word);
    if (kind != line_end) {
      if (const Position end = text.run_of(second, is_word); end > second) return end;
    }
    constexpr Kinds kOther = ~(kSpaces | kLetters | kMarks | kNumbers);
    if (TextScanner::has(kOther, kind) || (*at == ' ' && text.is(kOther, second))) {
      return text.run<kLineEnds>(text.run<kOther>(second));
    }
    return white_space<true>(text, at);
  }
};

}  // namespace moe::expressions
