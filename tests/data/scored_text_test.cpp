#include "data/scored_text.h"

#include <gtest/gtest.h>

#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using test::make_tokenizer;
using test::tokenizer_json;

int64_t scored(const Tokenizer& tokenizer, std::string_view text) {
  return scored_bytes(text, tokenizer.encode(text, {.add_special = false}), tokenizer);
}

Tokenizer with_pre_tokenizer(const Json& pre_tokenizer, const std::vector<std::string>& merges) {
  Json json = tokenizer_json(merges);
  json["pre_tokenizer"] = pre_tokenizer;
  return make_tokenizer(json);
}

TEST(ScoredBytes, AreAllWhereABosPredictsTheFirstToken) {
  Json json = tokenizer_json({"a b"});
  json["added_tokens"].push_back(test::added_token(257, "<s>", true));
  const Tokenizer tokenizer = make_tokenizer(json, R"({"bos_token": "<s>"})");
  EXPECT_EQ(scored(tokenizer, "abc"), 3);
  EXPECT_EQ(scored(tokenizer, "\u00e9"), 2);
  EXPECT_EQ(scored(tokenizer, ""), 0);
}

TEST(ScoredBytes, AreNotThoseOfTheFirstTokenWithoutBos) {
  const Tokenizer tokenizer = make_tokenizer(tokenizer_json({"a b"}));
  EXPECT_EQ(scored(tokenizer, "abc"), 1);
  EXPECT_EQ(scored(tokenizer, "cab"), 2);
  EXPECT_EQ(scored(tokenizer, "ab"), 0);
  EXPECT_EQ(scored(tokenizer, "\u00e9x"), 2) << "a character whose bytes are two tokens";
  EXPECT_EQ(scored(tokenizer,
                   "\xFF"
                   "ab"),
            2);
}

TEST(ScoredBytes, ABlankThatTheTokenizerAddsIsNoByteOfTheText) {
  const Tokenizer tokenizer =
      with_pre_tokenizer({{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}}, {"Ġ a"});
  EXPECT_EQ(scored(tokenizer, "abc"), 2);
  EXPECT_EQ(scored(tokenizer, " abc"), 2) << "this blank is of the text";
  EXPECT_EQ(scored(tokenizer, "xabc"), 4) << "the first token is the blank alone";
}

TEST(ScoredBytes, WhiteSpaceThatTheTokenizerDropsBeforeTheFirstTokenGoesWithIt) {
  const Tokenizer tokenizer = with_pre_tokenizer(
      {{"type", "Sequence"},
       {"pretokenizers",
        {{{"type", "WhitespaceSplit"}}, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}},
      {"a b"});
  EXPECT_EQ(scored(tokenizer, "abc"), 1);
  EXPECT_EQ(scored(tokenizer, " \n ab c"), 2);
  EXPECT_EQ(scored(tokenizer, "   "), 0) << "no token at all";
}

TEST(ScoredBytes, OfANormalizedTextAreThoseThatTheFirstTokenDoesNotComeFrom) {
  const auto with = [](const Json& normalizer, const std::vector<std::string>& merges = {}) {
    Json json = tokenizer_json(merges);
    json["normalizer"] = normalizer;
    return make_tokenizer(json);
  };
  const Json nfc = {{"type", "NFC"}}, nfd = {{"type", "NFD"}}, nfkc = {{"type", "NFKC"}};
  const std::vector<std::string> e_acute = {"\u00c3 \u00a9"};  // the letters of the bytes of U+00E9
  const std::string ab(3000, 'b');
  struct Case {
    Tokenizer tokenizer;
    std::string text;
    size_t first;  // bytes of the text that the first token comes from
  };
  const Json strip = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
  const Json no_x = {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", ""}};
  const Json mark = {{"type", "Prepend"}, {"prepend", "x"}};
  std::vector<Case> cases;
  cases.push_back({with(nfc, e_acute), "e\u0301t", 3});
  cases.push_back({with(nfc, e_acute), "\u00e9t", 2});
  cases.push_back({with(nfc, e_acute), "e\u0301" + ab, 3});
  cases.push_back({with(nfc, e_acute), "te\u0301", 1});
  cases.push_back({with(nfc), "e\u0301t", 2});             // its two bytes are two tokens
  cases.push_back({with(nfc), "q\u0301t", 1});             // no such character: q stays
  cases.push_back({with(nfc), "\u1112\u1161\u11ab!", 7});  // three letters of nine bytes are one syllable of three
  cases.push_back({with(nfd), "\u00e9t", 0});              // two bytes become three, of which e is one
  cases.push_back({with(nfkc, {"f i"}), "\ufb01x", 3});
  cases.push_back({with(nfkc), "\ufb01x", 2});
  cases.push_back({with(nfkc), "\ufdfax", 0});  // three bytes become 33
  cases.push_back({with(strip, {"a b"}), " \n\u3000abc ", 7});
  cases.push_back({with(strip), std::string(5000, ' ') + "abc", 5001});
  cases.push_back({with(no_x, {"a b"}), "xxaxbc", 5});
  cases.push_back({with(mark, {"x a"}), "abc", 1});
  cases.push_back({with(mark), "abc", 0});
  for (const Case& each : cases) {
    EXPECT_EQ(scored(each.tokenizer, each.text), static_cast<int64_t>(each.text.size() - each.first))
        << each.text.substr(0, 20);
  }
}

}  // namespace
}  // namespace moe
