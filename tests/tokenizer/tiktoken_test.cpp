// A vocabulary in tiktoken's form becomes a tokenizer that gives its ids.

#include "tokenizer/tiktoken.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (at + i < bytes.size() ? static_cast<uint8_t>(bytes[at + i]) : 0u);
    for (size_t i = 0; i < 4; ++i) text += at + i > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * i) & 63];
  }
  return text;
}

/// All bytes with their values as ranks, then `tokens`.
std::string vocabulary(const std::vector<std::string>& tokens) {
  std::string text;
  int rank = 0;
  for (; rank < 256; ++rank) text += fmt::format("{} {}\n", base64(std::string(1, static_cast<char>(rank))), rank);
  for (const std::string& token : tokens) text += fmt::format("{} {}\n", base64(token), rank++);
  return text;
}

std::string json_of(const std::string& text, const std::vector<TiktokenSpecial>& special = {}) {
  return tiktoken_tokenizer_json(text, "x.tiktoken", to_json(*find_gguf_pre_tokenizer("gpt-2")), special);
}

Tokenizer tokenizer_of(const std::vector<std::string>& tokens, const std::vector<TiktokenSpecial>& special = {}) {
  return Tokenizer(parse_tokenizer_files(json_of(vocabulary(tokens), special), {}, "x"));
}

TEST(Tiktoken, NeighboursMergeByTheRankOfWhatTheyMake) {
  const Tokenizer tokenizer = tokenizer_of({"bc", "ab", "abcd", "\xC3\xA9"});
  EXPECT_THAT(tokenizer.encode("abc", {}), ElementsAre('a', 256));  // bc comes before ab
  EXPECT_THAT(tokenizer.encode("abx", {}), ElementsAre(257, 'x'));
  EXPECT_THAT(tokenizer.encode("xé", {}), ElementsAre('x', 259));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("abcd é\xFFz", {})), "abcd é\xFFz");
}

TEST(Tiktoken, AWordThatIsATokenNeedsNoMerges) {
  const Tokenizer tokenizer = tokenizer_of({"abcd"});
  EXPECT_THAT(tokenizer.encode("abcd", {}), ElementsAre(256));
  EXPECT_THAT(tokenizer.encode("abcde", {}), ElementsAre('a', 'b', 'c', 'd', 'e'));
}

// [aa][a] and [a][aa] both make aaa.
TEST(Tiktoken, EveryWayToMakeATokenIsAMerge) {
  const Tokenizer tokenizer = tokenizer_of({"aa", "aaa", "ba"});
  EXPECT_THAT(tokenizer.encode("xaaa", {}), ElementsAre('x', 257));
  EXPECT_THAT(tokenizer.encode("aaaaax", {}), ElementsAre(256, 257, 'x'));
}

TEST(Tiktoken, SpecialTokensHaveTheirIds) {
  const Tokenizer tokenizer = tokenizer_of({"ab"}, {{"<|end|>", 300}});
  EXPECT_THAT(tokenizer.encode("ab<|end|>", {.parse_special = true}), ElementsAre(256, 300));
  EXPECT_FALSE(tokenizer.has_token(299));
  EXPECT_TRUE(tokenizer.is_special(300));
}

void expect_refused(const std::string& text, const std::vector<TiktokenSpecial>& special, const char* part) {
  try {
    json_of(text, special);
    ADD_FAILURE() << "nothing was refused; expected: " << part;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(Tiktoken, DamageIsNamedWithItsLine) {
  const std::string good = vocabulary({"ab"});
  expect_refused(good + "YWI=\n", {}, "x.tiktoken, line 258: found \"YWI=\", expected a token in base64");
  expect_refused(good + "Y*I= 257\n", {}, "line 258");
  expect_refused(good + "Y 257\n", {}, "line 258");
  expect_refused(good + " 257\n", {}, "line 258");
  expect_refused(good + "YWI= 99999999999\n", {}, "line 258");
  expect_refused(good + "YWJj -1\n", {}, "line 258");
  expect_refused(good + "YWJj 256\n", {}, "two tokens have the rank 256");
  expect_refused(good + "YWI= 257\n", {}, "the token \"ab\" is listed twice");
  expect_refused(good.substr(good.find('\n') + 1), {}, "byte 0x00 has no token");
  expect_refused("", {}, "byte 0x00 has no token");
  std::string longest;  // 4098 bytes
  for (int i = 0; i < 1366; ++i) longest += "YWJj";
  expect_refused(good + longest + " 257\n", {}, "line 258: the token has 4098 bytes, expected at most 4096");
  expect_refused(good, {{"<s>", 256}},
                 "the special token \"<s>\" has the id 256, which is another token's; 257 is free");
  expect_refused(good, {{"<s>", 257}, {"</s>", 257}}, "258 is free");
  expect_refused(good, {{"ab", 257}}, "is also an ordinary token");
  expect_refused(good, {{"<s>", -1}}, "expected one from 0");
}

}  // namespace
}  // namespace moe
