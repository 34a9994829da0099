#include "tokenizer/streaming_decoder.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "base/utf8.h"
#include "tests/tokenizer/support.h"

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
  EXPECT_EQ(decoder.push('x'), "\uFFFDx");
  EXPECT_EQ(decoder.push(0xFF), "\uFFFD");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamingDecoder, RandomBytesBecomeTheSameTextInPiecesAndAtOnce) {
  const Tokenizer tokenizer = make_tokenizer(tokenizer_json());
  const Random random(5, 0);
  std::string bytes, shown;
  StreamingDecoder decoder(tokenizer);
  for (uint64_t i = 0; i < 20000; ++i) {
    // Bytes that lead or go on with characters, mostly.
    const auto byte = static_cast<int32_t>(random.below(2 * i, 4) == 0 ? random.below(2 * i + 1, 256)
                                                                       : 0x80 + random.below(2 * i + 1, 0x80));
    bytes += static_cast<char>(byte);
    const std::string piece = decoder.push(byte);
    ASSERT_EQ(utf8_valid_prefix(piece), piece.size());
    shown += piece;
  }
  shown += decoder.flush();
  EXPECT_EQ(shown, valid_utf8(bytes));
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
