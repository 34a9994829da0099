// Unigram models. Trained ones are compared with the libraries by compare_unigram.py.

#include "tokenizer/unigram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/model_writer.h"
#include "tests/tokenizer/support.h"
#include "tokenizer/gguf_tokenizer_entries.h"
#include "tokenizer/unigram_json.h"

namespace moe {
namespace {

using test::error_of;
using test::Ids;
using test::make_tokenizer;
using test::ModelWriter;
using testing::HasSubstr;

constexpr EncodeOptions kPlain{.add_special = false};

/// A vocabulary of [text, score].
using Vocabulary = std::vector<Json>;

Json unigram_json(const Vocabulary& vocabulary, const Json& unknown = 0, bool byte_fallback = false) {
  return {
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", {{"type", "Metaspace"}, {"prepend_scheme", "never"}}},
      {"model", {{"type", "Unigram"}, {"unk_id", unknown}, {"vocab", vocabulary}, {"byte_fallback", byte_fallback}}}};
}

Json entry(const char* text, double score) { return Json::array({text, score}); }

const Vocabulary kLetters = {entry("<unk>", 0),  entry("a", -2),  entry("b", -2),     entry("ab", -3),
                             entry("abc", -3.5), entry("bc", -9), entry("\u00e9", -4)};

Ids encoded(const Json& json, std::string_view text) { return make_tokenizer(json).encode(text, kPlain); }

TEST(Unigram, TakesTheWayWithTheLargestSum) {
  const Json json = unigram_json(kLetters);
  EXPECT_EQ(encoded(json, "ab"), (Ids{3}));
  EXPECT_EQ(encoded(json, "ba"), (Ids{2, 1}));
  EXPECT_EQ(encoded(json, "aab"), (Ids{1, 3}));
  EXPECT_EQ(encoded(json, "abcab"), (Ids{4, 3}));
  EXPECT_EQ(encoded(json, "a\u00e9"), (Ids{1, 6}));
  EXPECT_EQ(encoded(json, ""), Ids{});
}

TEST(Unigram, AnUnknownCharacterCostsTenMoreThanTheWorstToken) {
  EXPECT_EQ(encoded(unigram_json(kLetters), "abbc"), (Ids{3, 5}));  // -12; a, b, bc is -13; c alone costs 19
  // The worst token is the whole text: -1. In three parts it is 2 a - 1 - 10.
  const auto with = [](double a) { return unigram_json({entry("<unk>", 0), entry("a", a), entry("axa", -1)}); };
  EXPECT_EQ(encoded(with(4.9), "axa"), (Ids{2}));
  EXPECT_EQ(encoded(with(5.1), "axa"), (Ids{1, 0, 1}));
}

TEST(Unigram, OfEqualSumsTheFirstFoundStays) {
  // Ways to "aaa": a + aa is offered to the end at 1, aa + a at 2; both are -5.
  EXPECT_EQ(encoded(unigram_json({entry("<unk>", 0), entry("a", -2), entry("aa", -3)}), "aaa"), (Ids{1, 2}));
}

TEST(Unigram, UnknownNeighboursAreOneTokenAndBytesWhereThereAreSome) {
  EXPECT_EQ(encoded(unigram_json(kLetters), "axyb\u4e2d"), (Ids{1, 0, 2, 0}));
  Vocabulary bytes = kLetters;
  for (const char* name : {"<0xE4>", "<0xB8>", "<0xAD>", "<0x78>"}) bytes.push_back(entry(name, -8));
  EXPECT_EQ(encoded(unigram_json(bytes, 0, true), "a\u4e2d"), (Ids{1, 7, 8, 9}));
  EXPECT_EQ(encoded(unigram_json(bytes, 0, true), "\u4e2dx"), (Ids{7, 8, 9, 10}));
  EXPECT_EQ(encoded(unigram_json(bytes, 0, true), "\u4e2dy"), (Ids{0}));  // y has no byte: neither has its neighbour
  EXPECT_EQ(encoded(unigram_json(bytes), "\u4e2d"), (Ids{0}));            // no fallback
  EXPECT_EQ(make_tokenizer(unigram_json(bytes, 0, true)).decode(Ids{1, 7, 8, 9}), "a\u4e2d");
  EXPECT_EQ(make_tokenizer(unigram_json(bytes)).decode(Ids{7}), "<0xE4>");
}

TEST(Unigram, BytesThatAreNoCharacterAreUnknown) {
  EXPECT_EQ(encoded(unigram_json(kLetters), "a\xE4\xB8"), (Ids{1, 0}));
  EXPECT_EQ(encoded(unigram_json(kLetters), "\xFF\x80"), (Ids{0}));
}

TEST(Unigram, WithoutAnUnknownTokenTheCharacterIsNamed) {
  const Tokenizer tokenizer = make_tokenizer(unigram_json(kLetters, nullptr));
  EXPECT_EQ(tokenizer.encode("ab", kPlain), (Ids{3}));
  EXPECT_THAT(error_of<Error>([&] { tokenizer.encode("a\u4e2d", kPlain); }), HasSubstr("\"\u4e2d\" has no token"));
}

TEST(Unigram, ScoresAreReadAsTheLibraryReadsThem) {
  EXPECT_EQ(score_in_library(-3.5), -3.5);
  EXPECT_EQ(score_in_library(0), 0.0);
  EXPECT_EQ(score_in_library(-15.050130844116211), -15.050130844116213);
  EXPECT_EQ(score_in_library(-1.2864480018615723), -1.2864480018615725);
  EXPECT_EQ(score_in_library(1e-05), 1e-05);
  EXPECT_EQ(score_in_library(2.5e+20), 2.5e+20);
}

TEST(Unigram, WordsAndMetaspaceAreCutAsTheLibraryCutsThem) {
  Json json = unigram_json({entry("<unk>", 0), entry("\u2581", -3), entry("\u2581a", -1), entry("a", -2)});
  const Json mark = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}, {"split", true}};
  json["pre_tokenizer"] = mark;
  EXPECT_EQ(encoded(json, "a  a"), (Ids{2, 1, 2}));
  EXPECT_EQ(encoded(json, "a\ta"), (Ids{2, 0, 3}));
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "WhitespaceSplit"}}, mark}}};
  EXPECT_EQ(encoded(json, " a \t a "), (Ids{2, 2}));
  json["pre_tokenizer"]["pretokenizers"][1]["prepend_scheme"] = "first";
  EXPECT_THAT(error_of<Error>([&] { make_tokenizer(json); }), HasSubstr("only supported as the first step"));
}

TEST(Unigram, WhatIsNotSupportedOrDamagedIsNamed) {
  const auto refusal = [](const Json& json) { return error_of<Error>([&] { make_tokenizer(json); }); };
  EXPECT_THAT(refusal(unigram_json(Vocabulary())), HasSubstr("\"vocab\" is empty"));
  EXPECT_THAT(refusal(unigram_json({entry("a", 0), entry("a", 1)})), HasSubstr("\"a\" is listed twice"));
  EXPECT_THAT(refusal(unigram_json(Vocabulary{entry("", 0)})), HasSubstr("token 0 is empty"));
  EXPECT_THAT(refusal(unigram_json(Vocabulary{Json::array({"a"})})), HasSubstr("expected [\"text\", score]"));
  EXPECT_THAT(refusal(unigram_json(kLetters, 7)), HasSubstr("unk_id is 7, expected an id from 0 to 6"));
  EXPECT_THAT(refusal(unigram_json({entry("a", 1e308), entry("b", -1)}, -2)), HasSubstr("unk_id is -2"));
  Json bytes = unigram_json(kLetters);
  bytes["pre_tokenizer"] = {{"type", "ByteLevel"}};
  EXPECT_THAT(refusal(bytes), HasSubstr("not supported for a model of characters"));
}

TEST(Unigram, HasNoPlaceInAGgufFile) {
  const test::TemporaryFolder folder;
  write_file(folder / "tokenizer.json", unigram_json(kLetters).dump());
  EXPECT_THAT(error_of<Error>([&] { gguf_tokenizer_entries(folder.path(), 100); }), HasSubstr("unigram"));
}

std::string unigram_file(bool byte_fallback, const std::string& normalizer) {
  std::string model = ModelWriter::piece("<unk>", 0, 2) + ModelWriter::piece("<s>", 0, 3) +
                      ModelWriter::piece("</s>", 0, 3) + ModelWriter::piece("\u2581", -3, 1) +
                      ModelWriter::piece("a", -2, 1) + ModelWriter::piece("\u2581a", -1, 1);
  if (byte_fallback) {
    for (int byte = 0; byte < 256; ++byte)
      model += ModelWriter::piece(byte_token_name(static_cast<uint8_t>(byte)), 0, 6);
  }
  return model + ModelWriter::bytes(2, ModelWriter::number(3, 1) + ModelWriter::number(35, byte_fallback ? 1 : 0)) +
         ModelWriter::bytes(3, normalizer);
}

Tokenizer from_model(const std::string& bytes) {
  return Tokenizer(parse_sentencepiece_files(bytes, {}, "tokenizer.model"));
}

TEST(Unigram, IsReadFromSentencePiecesOwnFile) {
  const std::string one_blank = ModelWriter::number(3, 1) + ModelWriter::number(4, 1);
  const Tokenizer plain = from_model(unigram_file(false, one_blank));
  EXPECT_EQ(plain.encode("a"), (Ids{5}));  // nothing is added unless a file says so
  EXPECT_EQ(plain.encode("  a   a  "), (Ids{5, 5}));
  EXPECT_EQ(plain.encode("xya<s>"), (Ids{3, 0, 4, 0}));
  EXPECT_EQ(plain.encode(" "), Ids{});
  const Tokenizer bytes = from_model(unigram_file(true, ModelWriter::number(3, 0) + ModelWriter::number(4, 0)));
  EXPECT_EQ(bytes.encode("a  a"), (Ids{4, 3, 5}));
  EXPECT_EQ(bytes.encode("x"), (Ids{6 + 'x'}));
  for (const std::string text : {"a  a ", "\u4e2d\n", "<0x41>", "a\xFF"}) {
    EXPECT_EQ(bytes.decode(bytes.encode(text)), text);
  }
}

TEST(Unigram, SentencePiecesScoresAreFinite) {
  const std::string bad = ModelWriter::piece("q", std::numeric_limits<float>::infinity(), 1);
  EXPECT_THAT(error_of<Error>([&] { from_model(unigram_file(false, "") + bad); }), HasSubstr("not a finite number"));
}

}  // namespace
}  // namespace moe
