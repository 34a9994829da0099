#include "tokenizer/streaming_decoder.h"

#include <gtest/gtest.h>

#include "tests/tokenizer/support.h"
#include "tokenizer/utf8.h"

namespace moe {
namespace {

using test::Ids;
using test::make_tokenizer;
using test::tokenizer_json;

TEST(StreamingDecoder, NeverCutsACharacterAndLosesNothing) {
  const Tokenizer tokenizer = make_tokenizer(tokenizer_json({"æ ±"}));  // the first two bytes of 汉
  const std::string text = "aü汉🦙\u0301z";
  StreamingDecoder decoder(tokenizer);
  std::string all;
  for (const int32_t id : tokenizer.encode(text)) {
    const std::string out = decoder.push(id);
    EXPECT_EQ(utf8_valid_prefix(out), out.size());
    all += out;
  }
  EXPECT_EQ(all, text);
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamingDecoder, HoldsBackTheStartOfACharacterUntilItCanBeNone) {
  const Tokenizer tokenizer = make_tokenizer(tokenizer_json());
  StreamingDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(0xE6), "");
  EXPECT_EQ(decoder.push(0xB1), "");
  EXPECT_EQ(decoder.push('x'), "\xE6\xB1x");
  EXPECT_EQ(decoder.push(0xFF), "\xFF");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.flush(), "\xF0");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamingDecoder, LeavesSpecialTokensOutUnlessAsked) {
  Json json = tokenizer_json();
  json["added_tokens"] = Json::array({test::added_token(256, "<s>", true)});
  const Tokenizer tokenizer = make_tokenizer(json);
  EXPECT_EQ(StreamingDecoder(tokenizer).push(256), "");
  EXPECT_EQ(StreamingDecoder(tokenizer, {.keep_special = true}).push(256), "<s>");
}

}  // namespace
}  // namespace moe
