#include "base/utf8.h"

#include <gtest/gtest.h>

#include "tokenizer/byte_letters.h"

namespace moe {
namespace {

using namespace std::string_literals;

TEST(Utf8, EveryCharacterRoundTripsAndSurrogatesAreNone) {
  for (char32_t c = 0; c <= 0x110000; ++c) {
    std::string text;
    utf8_append(text, c);
    const bool valid = c < 0x110000 && (c < 0xD800 || c > 0xDFFF);
    ASSERT_EQ(utf8_length(text), valid ? text.size() : 0) << static_cast<uint32_t>(c);
    if (!valid) continue;
    std::string_view rest = text;
    ASSERT_EQ(utf8_take(rest), c);
    ASSERT_TRUE(rest.empty());
  }
}

TEST(Utf8, OverlongAndCutFormsAreInvalid) {
  for (const auto& text : {"\xC0\x80"s, "\xC1\xBF"s, "\xE0\x9F\xBF"s, "\xF0\x8F\xBF\xBF"s, "\xF4\x90\x80\x80"s,
                           "\xF5\x80\x80\x80"s, "\x80"s, "\xFF"s, "\xE4\xB8"s, "\xC3"s, "\xE4\x41\x41"s, ""s}) {
    EXPECT_EQ(utf8_length(text), 0u);
  }
}

TEST(Utf8, ValidPrefixEndsAtTheFirstInvalidByte) {
  const std::string valid = "plain ASCII of some length, ü, 汉字, 🦙";
  EXPECT_EQ(utf8_valid_prefix(valid), valid.size());
  EXPECT_EQ(utf8_valid_prefix(valid + "\xE6\xB1" + "more"), valid.size());
  EXPECT_EQ(utf8_valid_prefix("\xFF"), 0u);
  EXPECT_EQ(utf8_valid_prefix(""), 0u);
}

TEST(Utf8, IncompleteSuffixIsOnlyWhatCanStillBecomeACharacter) {
  EXPECT_EQ(utf8_incomplete_suffix("ab"), 0u);
  EXPECT_EQ(utf8_incomplete_suffix("a\xC3"), 1u);
  EXPECT_EQ(utf8_incomplete_suffix("a\xE6\xB1"), 2u);
  EXPECT_EQ(utf8_incomplete_suffix("a\xF0\x9F\xA6"), 3u);
  EXPECT_EQ(utf8_incomplete_suffix("a\xF0\x9F\xA6\x99"), 0u);
  EXPECT_EQ(utf8_incomplete_suffix("a\xE0\x80"), 0u);  // overlong
  EXPECT_EQ(utf8_incomplete_suffix("a\xED\xA0"), 0u);  // surrogate
  EXPECT_EQ(utf8_incomplete_suffix("a\xFF"), 0u);
  EXPECT_EQ(utf8_incomplete_suffix("\xB1\xB1\xB1"), 0u);
}

// One U+FFFD for each longest start of a character, as the Unicode standard (section 3.9, "maximal subpart") advises
// and Python's errors="replace" does.
TEST(Utf8, WhatIsNoCharacterIsReplaced) {
  EXPECT_EQ(valid_utf8(""), "");
  EXPECT_EQ(valid_utf8("plain, ü, 汉字, 🦙"), "plain, ü, 汉字, 🦙");
  EXPECT_EQ(valid_utf8("a\xFF\xFE z"), "a\uFFFD\uFFFD z");
  EXPECT_EQ(valid_utf8("\xE6\xB1"), "\uFFFD");
  EXPECT_EQ(valid_utf8("\xE6\xB1\xE6\xB1\x89"), "\uFFFD汉");
  EXPECT_EQ(valid_utf8("\xF0\x9F\xA6z\xC3"), "\uFFFDz\uFFFD");
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(valid_utf8("\xE0\x80\xAF"), "\uFFFD\uFFFD\uFFFD");  // overlong
  EXPECT_EQ(valid_utf8("zero\0byte"s), "zero\0byte"s);
}

TEST(ByteLetters, AreThe256DistinctLettersOfGpt2) {
  EXPECT_EQ(to_byte_letters(" \n\x7F\xAD!~"), "ĠĊġŃ!~");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(from_byte_letters(to_byte_letters(all)), all);
  EXPECT_FALSE(from_byte_letters("<｜").has_value());
  EXPECT_FALSE(from_byte_letters(" ").has_value());
}

}  // namespace
}  // namespace moe
