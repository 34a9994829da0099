#include "tokenizer/regex.h"

#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/utf8.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::HasSubstr;

std::optional<std::string> first_match(const std::string& pattern, std::string_view text, size_t from = 0) {
  const Regex regex(pattern);
  RegexScratch scratch;
  Regex::Match match{};
  if (!regex.find(text, from, scratch, match)) return std::nullopt;
  return std::string(text.substr(match.begin, match.end - match.begin));
}

/// All characters that the pattern matches by themselves.
std::u32string characters(const std::string& pattern) {
  const Regex regex(pattern);
  RegexScratch scratch;
  std::u32string found;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    utf8_append(text, c);
    Regex::Match match{};
    if (regex.find(text, 0, scratch, match)) found += c;
  }
  return found;
}

TEST(Regex, WhiteSpaceIsUnicodesWithoutTheMongolianVowelSeparator) {
  const std::u32string spaces =
      U"\t\n\v\f\r "
      U"\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f"
      U"\u3000";
  EXPECT_EQ(characters(R"(\s)"), spaces);
  EXPECT_EQ(characters(R"([\s])"), spaces);
  EXPECT_EQ(characters(R"([^\S])"), spaces);
  EXPECT_EQ(characters(R"(\S)").size(), 0x110000u - 0x800u - spaces.size());
  EXPECT_EQ(characters(R"([^\s])"), characters(R"(\S)"));
}

TEST(Regex, AScriptIsTheScriptWithoutItsExtensions) {
  EXPECT_EQ(first_match(R"(\p{Han}+)", "、汉字。"), "汉字");
  EXPECT_EQ(first_match(R"(\p{^Han}+)", "汉、字"), "、");
  EXPECT_EQ(first_match(R"([\p{Hiragana}]+)", "ーかなー"), "かな");
  EXPECT_EQ(first_match(R"(\P{Han}+)", "汉a字"), "a");
}

TEST(Regex, LongCategoryNamesAreUnderstood) {
  EXPECT_EQ(first_match(R"(\p{Letter}+)", "12ab!"), "ab");
  EXPECT_EQ(first_match(R"(\p{Number}+)", "ab½2"), "½2");
}

// PCRE2's own tables depend on its version; these are in Unicode since 15, 15.1 and 16.
TEST(Regex, ClassesAreOfTheLibrarysUnicodeVersion) {
  EXPECT_EQ(first_match(R"(\p{L}+)", "1\U000323AF1"), "\U000323AF");
  EXPECT_EQ(first_match(R"([^\p{L}]+)", "\U00031350-\u1c89"), "-");
  EXPECT_EQ(first_match(R"(\p{So})", "a\U0001FA77"), "\U0001FA77");
  EXPECT_EQ(first_match(R"(\p{Ideographic}+)", "a\U0002EBF0b"), "\U0002EBF0");
  EXPECT_EQ(first_match(R"(\p{Hani}+)", "a\U0002EBF0b"), "\U0002EBF0");
  EXPECT_EQ(characters(R"(\p{L})").size(), 141028u);
  EXPECT_EQ(characters(R"([\P{L}])").size(), 0x110000u - 0x800u - 141028u);
  EXPECT_EQ(characters(R"(\p{Alphabetic})").size(), 142759u);
  EXPECT_EQ(characters(R"(\p{Lowercase})").size(), 2569u);
  EXPECT_EQ(characters(R"(\p{Uppercase})").size(), 1978u);
}

TEST(Regex, LatinFractionsAndSuperscriptsAreWordCharacters) {
  EXPECT_EQ(characters(R"(\w)").size(), 144671u);
  EXPECT_EQ(first_match(R"(\w+)", "-\u00b2\u00b3\u00b9\u00bc\u00bd\u00be-"), "\u00b2\u00b3\u00b9\u00bc\u00bd\u00be");
  EXPECT_EQ(first_match(R"(\W+)", "\u00bd-a"), "-");
  EXPECT_EQ(first_match(R"([\W]+)", "\u00bd-a"), "\u00bd-") << "not inside a class";
  EXPECT_EQ(first_match(R"([\w]+)", "\u00bda"), "a");
  EXPECT_EQ(first_match(R"(\w)", "\u2070"), std::nullopt);
}

TEST(Regex, WordCharactersHaveMarksAndConnectors) {
  EXPECT_EQ(first_match(R"(\w+)", "-e\u0301_\u203f9-"), "e\u0301_\u203f9");
  EXPECT_EQ(first_match(R"(\W+)", "a\u0301-b"), "-");
}

TEST(Regex, LineAnchorsMatchAtEveryLine) {
  EXPECT_EQ(first_match(R"(\s+$)", "a  \nb"), "  ");
  EXPECT_EQ(first_match(R"(b$)", "ab\nc"), "b");
  EXPECT_EQ(first_match(R"(^c)", "ab\nc"), "c");
}

TEST(Regex, RubysDotAllFlagAndOpenIntervalAreTranslated) {
  EXPECT_EQ(first_match("(?m:a.b)", "a\nb"), "a\nb");
  EXPECT_EQ(first_match("a.b", "a\nb"), std::nullopt);
  EXPECT_EQ(first_match("xa{,2}y", "xaay"), "xaay");
  EXPECT_EQ(first_match("(?i:'S|'t)", "it's"), "'s");
  EXPECT_EQ(first_match(R"(\u00e9)", "é"), "é");
}

TEST(Regex, IgnoringCaseIsFineWhereNoCharacterFoldsToTwo) {
  EXPECT_EQ(first_match(R"((?i:'[st]|'(?:re|ll))sst)", "'LLsst"), "'LLsst");
  EXPECT_EQ(first_match("(?i:'s)", "'ſ"), "'ſ");
}

TEST(Regex, WhatWouldMeanSomethingElseIsRefusedByName) {
  const auto refusal = [](const std::string& pattern) { return error_of<Error>([&] { Regex regex(pattern); }); };
  EXPECT_THAT(refusal(R"(\bword)"), HasSubstr(R"(\b)"));
  EXPECT_THAT(refusal(R"([a[b]])"), HasSubstr("a class inside a class"));
  EXPECT_THAT(refusal(R"([[:alpha:]])"), HasSubstr("a class inside a class"));
  EXPECT_THAT(refusal(R"([\w&&\d])"), HasSubstr("&&"));
  EXPECT_THAT(refusal(R"(\p{N}{1,3}+)"), HasSubstr("an interval followed by +"));
  EXPECT_THAT(refusal(R"(a(?i)b|c)"), HasSubstr("the group"));
  EXPECT_THAT(refusal("(?i:strasse)"), HasSubstr("\"st\" where case is ignored"));
  EXPECT_THAT(refusal("(?i)off|x"), HasSubstr("\"ff\" where case is ignored"));
  EXPECT_THAT(refusal("(?i:ß)"), HasSubstr("beyond ASCII"));
  EXPECT_THAT(refusal(R"(\h)"), HasSubstr(R"(\h)"));
  EXPECT_THAT(refusal(R"(\xe9)"), HasSubstr(R"(\x)"));
  EXPECT_THAT(refusal(R"(\p{Klingon})"), HasSubstr("the property \"Klingon\""));
  EXPECT_THAT(refusal("(a"), HasSubstr("cannot be used"));
  EXPECT_THAT(refusal("[a"), HasSubstr("closing"));
  EXPECT_THAT(refusal("a\\"), HasSubstr("backslash"));
}

TEST(Regex, EscapedLiteralsMatchThemselves) {
  const std::string literal = R"(a.b*[c]{2}(d)|^$\é-)";
  EXPECT_EQ(first_match(regex_escape(literal), "x" + literal + "y"), literal);
}

TEST(Regex, SearchStartsAtTheGivenByteAndSeesWhatStandsBefore) {
  EXPECT_EQ(first_match("(?<=a)b", "abcb", 1), "b");
  EXPECT_EQ(first_match("a", "abca", 1), "a");
  EXPECT_EQ(first_match("^b", "ab", 1), std::nullopt);
}

}  // namespace
}  // namespace moe
