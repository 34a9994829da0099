#include "tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

using Words = std::vector<std::string>;

Json byte_level(bool add_prefix_space = false, bool use_regex = false) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"use_regex", use_regex}};
}

Json split(const std::string& kind, const std::string& pattern, const std::string& behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", {{kind, pattern}}}, {"behavior", behavior}, {"invert", invert}};
}

Words words_of(std::vector<Json> steps, std::string_view text) {
  const PreTokenizer pre_tokenizer(Json{{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}, "t.json");
  RegexScratch scratch;
  Words words;
  pre_tokenizer.for_each_word(text, scratch, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

Words dashes(const std::string& behavior, std::string_view text, bool invert = false) {
  return words_of({split("String", "-", behavior, invert), byte_level()}, text);
}

TEST(PreTokenizer, BehaviorsAreThoseOfTheTokenizersLibrary) {
  constexpr std::string_view kText = "the-final--countdown";
  EXPECT_THAT(dashes("Isolated", kText), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(dashes("Removed", kText), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(dashes("MergedWithPrevious", kText), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(dashes("MergedWithNext", kText), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(dashes("Contiguous", kText), ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(PreTokenizer, BehaviorsHoldAtBothEnds) {
  constexpr std::string_view kText = "--a-";
  EXPECT_THAT(dashes("MergedWithPrevious", kText), ElementsAre("-", "-", "a-"));
  EXPECT_THAT(dashes("MergedWithNext", kText), ElementsAre("-", "-a", "-"));
  EXPECT_THAT(dashes("Contiguous", kText), ElementsAre("--", "a", "-"));
  EXPECT_THAT(dashes("Removed", kText), ElementsAre("a"));
}

TEST(PreTokenizer, InvertExchangesMatchesAndGaps) {
  EXPECT_THAT(dashes("Removed", "a-b", true), ElementsAre("-"));
  EXPECT_THAT(dashes("MergedWithPrevious", "-a-b", true), ElementsAre("-a", "-b"));
}

TEST(PreTokenizer, EmptyMatchesCutBetweenCharacters) {
  EXPECT_THAT(words_of({split("Regex", "x*", "Isolated"), byte_level()}, "aüxxb"), ElementsAre("a", "ü", "xx", "b"));
  EXPECT_THAT(words_of({split("Regex", "(?=b)", "Isolated"), byte_level()}, "abab"), ElementsAre("a", "ba", "b"));
}

TEST(PreTokenizer, EachStepSeesPiecesAsTextsOfTheirOwn) {
  EXPECT_THAT(
      words_of({split("Regex", "\\n", "Isolated"), split("Regex", "\\s+$", "Isolated"), byte_level()}, "a  \nb "),
      ElementsAre("a", "  ", "\n", "b", " "));
}

TEST(PreTokenizer, DigitsAreSingleOrTogether) {
  const auto digits = [](bool single) { return Json{{"type", "Digits"}, {"individual_digits", single}}; };
  EXPECT_THAT(words_of({digits(true), byte_level()}, "a12½b"), ElementsAre("a", "1", "2", "½", "b"));
  EXPECT_THAT(words_of({digits(false), byte_level()}, "a12½b"), ElementsAre("a", "12½", "b"));
  EXPECT_THAT(words_of({Json{{"type", "Digits"}}, byte_level()}, "a12½b"), ElementsAre("a", "12½", "b"))
      << "where the file does not say";
}

TEST(PreTokenizer, StepsHaveTheClassesOfTheirOwnUnicodeVersions) {
  const auto step = [](const char* type) { return Json{{"type", type}}; };
  EXPECT_THAT(words_of({step("Whitespace"), byte_level()}, "/\u200d1 a\u0301_!?"),
              ElementsAre("/", "\u200d1", "a\u0301_", "!?"));
  EXPECT_THAT(words_of({step("Whitespace"), byte_level()}, "a\u00bd"), ElementsAre("a", "\u00bd"));
  EXPECT_THAT(words_of({step("Punctuation"), byte_level()}, "a\u061db\u2e42c$\u166d"),
              ElementsAre("a\u061db", "\u2e42", "c", "$", "\u166d"));
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_THAT(words_of({digits, byte_level()}, "a\U00011de0\U00016ff4"), ElementsAre("a", "\U00011de0", "\U00016ff4"))
      << "digits since Unicode 17";
}

TEST(PreTokenizer, DigitsAreTogetherWhereNothingIsSaid) {
  EXPECT_THAT(words_of({Json{{"type", "Digits"}}, byte_level()}, "a12½b"), ElementsAre("a", "12½", "b"));
}

TEST(PreTokenizer, ByteLevelHasGpt2sExpressionAndABlankBefore) {
  EXPECT_THAT(words_of({byte_level(false, true)}, "Hello  world, it's 12"),
              ElementsAre("Hello", " ", " world", ",", " it", "'s", " 12"));
  EXPECT_THAT(words_of({byte_level(true, true)}, "Hello world"), ElementsAre(" Hello", " world"));
  EXPECT_THAT(words_of({split("String", "-", "Isolated"), byte_level(true)}, "a- b"), ElementsAre(" a", " -", " b"));
}

TEST(PreTokenizer, WhatIsNotUtf8EndsAWordAndIsPassedOver) {
  EXPECT_THAT(words_of({byte_level(false, true)},
                       "ab\xFF\xFE"
                       "cd \xE6"),
              ElementsAre("ab", "cd", " "));
}

TEST(PreTokenizer, UnsupportedStepsAreNamed) {
  const auto refusal = [](const Json& json) { return error_of<Error>([&] { PreTokenizer step(json, "t.json"); }); };
  EXPECT_THAT(refusal({{"type", "BertPreTokenizer"}}),
              HasSubstr("t.json: pre_tokenizer: the step BertPreTokenizer is not supported"));
  EXPECT_THAT(refusal(split("Regex", "a", "Isolated")), HasSubstr("no ByteLevel step"));
  EXPECT_THAT(refusal({{"type", "Sequence"}, {"pretokenizers", {byte_level(), byte_level()}}}),
              HasSubstr("follows ByteLevel"));
  EXPECT_THAT(refusal(split("Regex", "a", "Sideways")), HasSubstr("\"Sideways\" is unknown"));
  EXPECT_THAT(refusal(split("Regex", "[a[b]]", "Isolated")),
              HasSubstr("t.json: pre_tokenizer: the regular expression"));
}

}  // namespace
}  // namespace moe
