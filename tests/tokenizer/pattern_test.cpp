// Expressions that are matched by code of our own, against PCRE2 matching the same expressions.

#include "tokenizer/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace moe {
namespace {

using testing::ElementsAre;

using Parts = std::vector<std::string>;

/// Matches as they are, gaps in angle brackets.
Parts parts_of(const Pattern& pattern, std::string_view text) {
  RegexScratch scratch;
  Parts parts;
  pattern.for_each(text, scratch, [&](size_t begin, size_t end, bool is_match) {
    const std::string part(text.substr(begin, end - begin));
    parts.push_back(is_match ? part : "<" + part + ">");
  });
  return parts;
}

const std::vector<std::string>& published() {
  static const std::vector<std::string> expressions = {
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
      std::string(kTrainedPattern),
      R"(\p{N})",
      R"(\p{N}{1,3})",
      "[\r\n]",
      R"(\s+$)",
      R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯ]+)",
      R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
      R"([一-龥ࠀ-一가-퟿]+)",
      R"([\s\d\p{Lu}_\]-]+)"};
  return expressions;
}

/// Characters that take part in some alternative, and neighbours of theirs.
std::string random_text(uint64_t seed) {
  static const std::vector<std::string> pool = {
      "a",      "b",      "Z",      "s",          "S",          "t",      "r",      "e",    "v",      "E",
      "l",      "L",      "m",      "d",          "'",          "'",      " ",      " ",    " ",      "\n",
      "\r",     "\t",     "\v",     "/",          "/",          "1",      "2",      "0",    "!",      "[",
      "^",      "`",      "$",      "_",          "-",          "\x01",   "é",      "É",    "ǅ",      "ʰ",
      "ª",      "ſ",      "İ",      "汉",         "字",         "か",     "ー",     "々",   "、",     "。",
      "！",     "Ａ",     "　",     "\u00a0",     "½",          "²",      "٣",      "Ⅳ",    "\u0301", "\u3099",
      "\u093e", "\u20dd", "\u200d", "\u180e",     "\u2028",     "\u0085", "€",      "😀",    "가",     "\u0378",
      "\ue000", "𝟘",      "𐐀",      "\U0001FA77", "\U00031350", "\u1c89", "\u0ecf", "word", "   ",    "\n\n"};
  const Random random(seed, 3);
  std::string text;
  const uint64_t size = 1 + random.below(0, seed % 7 == 0 ? 60 : 9);
  for (uint64_t i = 1; i <= size; ++i) text += pool[random.below(i, pool.size())];
  return text;
}

TEST(Pattern, PublishedExpressionsAreMatchedWithoutPcre2) {
  for (const std::string& expression : published()) EXPECT_FALSE(Pattern(expression).uses_pcre2()) << expression;
  for (const char* other : {"[^a]+", R"(\p{L}+|x)", "[a-z]+x", "a", R"(\s+$|a)", R"(\s?[a-z]+$)", "[a-z]{2}"}) {
    EXPECT_TRUE(Pattern(other).uses_pcre2()) << other;
  }
}

TEST(Pattern, OurMatchersGiveWhatPcre2Gives) {
  for (const std::string& expression : published()) {
    const Pattern ours(expression);
    const Pattern oracle{Regex(expression)};
    for (uint64_t seed = 0; seed < 1500; ++seed) {
      const std::string text = random_text(seed);
      ASSERT_EQ(parts_of(ours, text), parts_of(oracle, text)) << expression << "\nseed " << seed << ": " << text;
    }
  }
}

// Both ends of every run of characters of one kind, and some between them.
TEST(Pattern, CharactersOfEveryKindAreCutAsByPcre2) {
  const unicode::KindTable& kinds = unicode::kind_table();
  for (const std::string& expression : published()) {
    const Pattern ours(expression);
    const Pattern oracle{Regex(expression)};
    std::string text;
    for (char32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      const bool at_an_end = c == 0 || c == 0x10FFFF || kinds[c] != kinds[c - 1] || kinds[c] != kinds[c + 1];
      if (!at_an_end && c >= 0x600 && c % 509 != 0) continue;
      for (const char* after : {"b", " ", "1", "."}) {
        utf8_append(text, c);
        text += after;
      }
      if (text.size() < 60000 && c != 0x10FFFF) continue;
      ASSERT_EQ(parts_of(ours, text), parts_of(oracle, text)) << expression << " up to " << std::hex << uint32_t{c};
      text.clear();
    }
  }
}

TEST(Pattern, AMarkIsAWordBeforeCapitalsOfO200k) {
  const Pattern pattern(published()[3]);
  EXPECT_THAT(parts_of(pattern, "\u0301ABC"), ElementsAre("\u0301", "ABC"));
  EXPECT_THAT(parts_of(pattern, "\u0301ABc"), ElementsAre("\u0301ABc"));
  EXPECT_THAT(parts_of(pattern, "-ABC's"), ElementsAre("-ABC's"));
}

TEST(Pattern, WhatNoAlternativeMatchesIsAGap) {
  EXPECT_THAT(parts_of(Pattern(published()[4]), "a\x01\x02 b"), ElementsAre("a", "<\x01\x02>", " b"));
}

}  // namespace
}  // namespace moe
