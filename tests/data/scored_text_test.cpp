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

}  // namespace
}  // namespace moe
