// SentencePiece's maps of characters, and the graphemes that the library looks up in them. Trained models' maps are
// compared with the libraries by compare_unigram.py.

#include "tokenizer/character_map.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"
#include "tokenizer/graphemes.h"
#include "tokenizer/normalizer.h"

namespace moe {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

/// A map as a double array trie: every node has 256 places of its own, so the array is large and simple.
std::string map_bytes(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string texts;
  std::vector<uint32_t> units(512);
  units[0] = 256u << 10;  // the root's children are at 256 ^ byte
  size_t next = 512;
  std::vector<std::pair<std::string, size_t>> nodes = {{"", 256}};  // by the bytes before: where the children are
  const auto children_of = [&](const std::string& bytes) {
    for (const auto& [known, place] : nodes) {
      if (known == bytes) return place;
    }
    return size_t{0};
  };
  for (const auto& [key, value] : entries) {
    for (size_t i = 0; i < key.size(); ++i) {
      const size_t place = children_of(key.substr(0, i)) ^ static_cast<uint8_t>(key[i]);
      if (children_of(key.substr(0, i + 1)) == 0) {
        nodes.emplace_back(key.substr(0, i + 1), next);
        units.resize(next + 256);
        units[place] = static_cast<uint32_t>(next ^ place) << 10 | static_cast<uint8_t>(key[i]);
        next += 256;
      }
      if (i + 1 < key.size()) continue;
      units[place] |= 1u << 8;
      units[children_of(key)] = 1u << 31 | static_cast<uint32_t>(texts.size());
      texts += value + '\0';
    }
  }
  std::string bytes(4 + units.size() * 4, '\0');
  const auto size = static_cast<uint32_t>(units.size() * 4);
  std::memcpy(bytes.data(), &size, 4);
  std::memcpy(bytes.data() + 4, units.data(), size);
  return bytes + texts;
}

CharacterMap map_of(const std::vector<std::pair<std::string, std::string>>& entries) {
  return {map_bytes(entries), "map"};
}

std::vector<std::string> graphemes(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    parts.emplace_back(text.substr(0, grapheme_length(text)));
    text.remove_prefix(parts.back().size());
  }
  return parts;
}

TEST(Graphemes, EndWhereUnicodeSays) {
  EXPECT_THAT(graphemes("ab\r\n\n"), ElementsAre("a", "b", "\r\n", "\n"));
  EXPECT_THAT(graphemes("e\u0301\u0316x\u0903"), ElementsAre("e\u0301\u0316", "x\u0903"));
  EXPECT_THAT(graphemes("\n\u0301\u0600a"), ElementsAre("\n", "\u0301", "\u0600a"));
  EXPECT_THAT(graphemes("\u1100\u1161\u11a8\u1100\uac00\u11a8\uac01\u11a8\u1161"),
              ElementsAre("\u1100\u1161\u11a8", "\u1100\uac00\u11a8", "\uac01\u11a8", "\u1161"));
  EXPECT_THAT(graphemes("\U0001F1E6\U0001F1E7\U0001F1E8"), ElementsAre("\U0001F1E6\U0001F1E7", "\U0001F1E8"));
  EXPECT_THAT(graphemes("\u00a9\u0308\u200d\u00a9a\u200d\u00a9"),
              ElementsAre("\u00a9\u0308\u200d\u00a9", "a\u200d", "\u00a9"));
  EXPECT_THAT(graphemes("\u0915\u094d\u200d\u0937\u0915\u0937"),
              ElementsAre("\u0915\u094d\u200d\u0937", "\u0915", "\u0937"));
}

TEST(CharacterMap, FindsTheLongestAndTheShortest) {
  const CharacterMap map = map_of({{"a", "1"}, {"abc", "3"}, {"\u00e9", "e"}, {"x", ""}});
  EXPECT_EQ(map.longest("abcd")->length, 3u);
  EXPECT_EQ(map.longest("abcd")->replacement, "3");
  EXPECT_EQ(map.longest("abd")->replacement, "1");
  EXPECT_EQ(map.shortest("abcd")->length, 1u);
  EXPECT_EQ(map.longest("\u00e9")->replacement, "e");
  EXPECT_EQ(map.longest("x")->replacement, "");
  EXPECT_FALSE(map.longest("b") || map.longest("") || map.longest(std::string_view("\0a", 2)));
}

TEST(CharacterMap, OfGraphemesFollowsTheLibrary) {
  const CharacterMap map = map_of({{"\ufb01", "fi"}, {"e\u0301", "\u00e9"}, {"a", "A"}});
  EXPECT_EQ(map.apply_to_graphemes("\ufb01n"), "fin");
  EXPECT_EQ(map.apply_to_graphemes("e\u0301e"), "\u00e9e");
  // The beginning of a grapheme of at most five bytes stands for all of it.
  EXPECT_EQ(map.apply_to_graphemes("a\u0301b"), "Ab");
  EXPECT_EQ(map.apply_to_graphemes("e\u0301\u0316"), "\u00e9");
  EXPECT_EQ(map.apply_to_graphemes("a\u0301\u0316"), "A");
  EXPECT_EQ(map.apply_to_graphemes("a\u0301\u20d0"), "A\u0301\u20d0");  // six bytes
  EXPECT_EQ(map.apply_to_graphemes("\xFF"
                                   "a\xE4"),
            "\xFF"
            "A\xE4");
}

TEST(CharacterMap, WhatIsDamagedIsNamed) {
  const auto refusal = [](const std::string& bytes) {
    return error_of<Error>([&] { CharacterMap map(bytes, "map"); });
  };
  EXPECT_THAT(refusal(""), HasSubstr("map: the map of characters has 0 bytes"));
  EXPECT_THAT(refusal(std::string("\4\0\0\0", 4)), HasSubstr("has 4 bytes"));
  EXPECT_THAT(refusal(std::string("\3\0\0\0abcd", 8)), HasSubstr("expected the size"));
  EXPECT_THAT(refusal(map_bytes({{"a", "\xFF"}})), HasSubstr("not UTF-8"));
  // A text that is not there, and children that are not there.
  std::string bytes = map_bytes({{"a", "b"}});
  bytes.pop_back();
  bytes.pop_back();
  EXPECT_FALSE(bytes.empty());
  std::string outside = map_bytes({{"a", "b"}});
  outside[4 + 4 * 512] = '\x7F';
  EXPECT_THAT(error_of<Error>([&] { CharacterMap(outside, "map").longest("a"); }),
              HasSubstr("names a text at byte 127"));
  std::string away = map_bytes({{"a", "b"}});
  away[4 + 4 * (256 ^ 'a') + 3] = '\x7F';
  EXPECT_FALSE(CharacterMap(away, "map").longest("a"));
}

TEST(Normalizer, ExpressionsAreReplacedAndEndsStripped) {
  const Json replace = {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", "_"}};
  const Json strip = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}};
  const Normalizer both({{"type", "Sequence"}, {"normalizers", {strip, replace}}}, "t.json");
  EXPECT_EQ(both.apply(" a  b   \xFF  c\u3000\t", true), " a_b_\xFF_c");
  EXPECT_EQ(Normalizer({{"type", "Strip"}}, "t.json").apply("\u00a0 a \n", true), "a");
  EXPECT_EQ(Normalizer({{"type", "Strip"}}, "t.json").apply(" \t", true), "");
  EXPECT_TRUE(both.has_map_or_expression());
  EXPECT_THAT(error_of<Error>([] {
                Normalizer({{"type", "Replace"}, {"pattern", {{"Regex", "("}}}, {"content", ""}}, "t.json");
              }),
              HasSubstr("t.json: Replace: "));
  EXPECT_THAT(error_of<Error>([] {
                Normalizer({{"type", "Precompiled"}, {"precompiled_charsmap", "?"}}, "t.json");
              }),
              HasSubstr("not base64"));
}

// A map that makes blanks: what characters become counts, also at the ends.
TEST(Normalizer, SentencePiecesBlanksAreThoseOfTheMappedText) {
  const auto map =
      std::make_shared<const CharacterMap>(map_of({{"\t", " "}, {"\u3000", " "}, {"\u00b4", " '"}, {"#", ""}}));
  const Normalizer single = Normalizer::of_sentencepiece({.map = map, .prefix = true, .single_blanks = true});
  EXPECT_EQ(single.apply("\t a\u3000 \tb#\u00b4 ", true), "\u2581a\u2581b\u2581'");
  EXPECT_EQ(single.apply(" \t", true), "");
  EXPECT_EQ(single.apply("a #\u00b4", true), "\u2581a\u2581'");
  const Normalizer all = Normalizer::of_sentencepiece({.map = map, .prefix = false, .single_blanks = false});
  EXPECT_EQ(all.apply("\t a ", true), "\u2581\u2581a\u2581");
}

}  // namespace
}  // namespace moe
