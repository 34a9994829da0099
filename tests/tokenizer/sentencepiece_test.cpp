// Vocabularies of characters: tokenizer.json with byte_fallback, and SentencePiece's tokenizer.model. The ids of
// published ones are compared by compare_sentencepiece.py.

#include "tokenizer/sentencepiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/model_writer.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using test::error_of;
using test::Ids;
using test::make_tokenizer;
using test::ModelWriter;
using test::TemporaryFolder;
using testing::HasSubstr;

constexpr EncodeOptions kPlain{.add_special = false};
constexpr int kFirst = 259;  // behind <unk>, <s>, </s> and the bytes

struct Word {
  std::string text;
  float score;
};

// In the order of their ids; the best score merges first.
const std::vector<Word> kWords = {{"\u2581", 0},    {"a", 0},   {"b", 0},    {"\u00e4", 0},        {"ab", -1},
                                  {"\u2581ab", -2}, {"aa", -3}, {"aaa", -4}, {"\u2581\u2581", -5}, {"\u2581a", -6}};

Json character_json() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[byte_token_name(static_cast<uint8_t>(byte))] = 3 + byte;
  int id = kFirst;
  for (const Word& word : kWords) vocab[word.text] = id++;
  const auto special = [](int at, const char* content) {
    return Json{{"id", at}, {"content", content}, {"special", true}, {"normalized", false}};
  };
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const Json back = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  return {
      {"added_tokens", {special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")}},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", "\u2581"}}, replace}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", {{"type", "Sequence"}, {"decoders", {back, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"byte_fallback", true},
        {"fuse_unk", true},
        {"vocab", vocab},
        {"merges", {"a b", "\u2581 ab", "a a", "aa a", "a aa", "\u2581 \u2581", "\u2581 a"}}}}};
}

Ids words(std::initializer_list<int> numbers) {
  Ids ids;
  for (const int number : numbers) ids.push_back(kFirst + number);
  return ids;
}

TEST(Characters, BlanksAreMarksAndOtherCharactersAreBytes) {
  const Tokenizer tokenizer = make_tokenizer(character_json());
  EXPECT_EQ(tokenizer.encode("ab", kPlain), words({5}));
  EXPECT_EQ(tokenizer.encode("ab ab", kPlain), words({5, 5}));
  EXPECT_EQ(tokenizer.encode("\u00e4", kPlain), words({0, 3}));
  EXPECT_EQ(tokenizer.encode("c", kPlain), (Ids{kFirst, 3 + 'c'}));
  EXPECT_EQ(tokenizer.encode("\u00e9", kPlain), (Ids{kFirst, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer.encode("", kPlain), Ids{});
}

TEST(Characters, TextComesBackWithoutTheBlankThatWasPutBeforeIt) {
  const Tokenizer tokenizer = make_tokenizer(character_json());
  for (const std::string text : {"ab", " ab", "  a  b ", "\u00e9\n\x01 x", "\xff\x80 a", "<0x41>", "a\u00e4\u00e4"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, kPlain)), text);
  }
  EXPECT_EQ(tokenizer.token_bytes(kFirst + 5), " ab");
  EXPECT_EQ(tokenizer.token_bytes(3 + 0xC3), "\xc3");
}

TEST(Characters, EveryPartBetweenSpecialTokensIsNormalizedByItself) {
  const Tokenizer tokenizer = make_tokenizer(character_json());
  const EncodeOptions parse{.add_special = false, .parse_special = true};
  EXPECT_EQ(tokenizer.encode("ab<s>ab", parse), (Ids{kFirst + 5, 1, kFirst + 5}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("ab<s>", kPlain)), "ab<s>");
}

TEST(Characters, MetaspaceMarksTheStartOfTheTextAlone) {
  Json json = character_json();
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}};
  const Tokenizer first = make_tokenizer(json);
  const EncodeOptions parse{.add_special = false, .parse_special = true};
  EXPECT_EQ(first.encode("ab<s>ab ab", parse), (Ids{kFirst + 5, 1, kFirst + 4, kFirst + 5}));
  EXPECT_EQ(first.encode(" ab", kPlain), words({5}));
  // The library looks at where the text began before the normalizer, and puts no mark where its beginning is gone.
  for (const Json& normalizer : {Json{{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}},
                                 Json{{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", ""}}}) {
    Json cutting = json;
    cutting["normalizer"] = normalizer;
    EXPECT_THAT(error_of<Error>([&] { make_tokenizer(cutting); }), HasSubstr("prepend_scheme first is not supported"));
  }
  json["pre_tokenizer"]["prepend_scheme"] = "always";
  EXPECT_EQ(make_tokenizer(json).encode("ab<s>ab", parse), (Ids{kFirst + 5, 1, kFirst + 5}));
  json["pre_tokenizer"]["prepend_scheme"] = "never";
  EXPECT_EQ(make_tokenizer(json).encode("ab", kPlain), words({4}));
  json["pre_tokenizer"]["split"] = true;  // no merge goes across a mark's front
  EXPECT_EQ(make_tokenizer(json).encode("  ab", kPlain), words({0, 5}));
}

TEST(Characters, WhatIsMissingOrNotSupportedIsNamed) {
  const auto refusal = [](const std::string& pointer, const Json& value) {
    Json json = character_json();
    json[Json::json_pointer(pointer)] = value;
    return error_of<Error>([&] { make_tokenizer(json); });
  };
  EXPECT_THAT(refusal("/normalizer", {{"type", "Nmt"}}), HasSubstr("the normalizer Nmt is not supported"));
  EXPECT_THAT(refusal("/decoder", {{"type", "WordPiece"}}), HasSubstr("the decoder WordPiece is not supported"));
  EXPECT_THAT(refusal("/decoder/decoders/3/start", 2), HasSubstr("removes 2 blanks"));
  EXPECT_THAT(refusal("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}}), HasSubstr("another character"));
  EXPECT_THAT(refusal("/model/type", "Unigram"), HasSubstr("vocab"));
  EXPECT_THAT(refusal("/model/type", "WordPiece"), HasSubstr("the model type WordPiece is not supported"));
  Json json = character_json();
  json["model"]["vocab"].erase("<0x41>");
  json["model"]["vocab"]["<0x041>"] = 3 + 0x41;
  EXPECT_THAT(error_of<Error>([&] { make_tokenizer(json); }), HasSubstr("byte 0x41 has no token of its own"));
}

std::string model_file(const std::string& trainer, const std::string& normalizer) {
  std::string model =
      ModelWriter::piece("<unk>", 0, 2) + ModelWriter::piece("<s>", 0, 3) + ModelWriter::piece("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) model += ModelWriter::piece(byte_token_name(static_cast<uint8_t>(byte)), 0, 6);
  for (const Word& word : kWords) model += ModelWriter::piece(word.text, word.score, 1);
  return model + ModelWriter::bytes(2, trainer) + ModelWriter::bytes(3, normalizer);
}

const std::string kTrainer = ModelWriter::number(3, 2) + ModelWriter::number(35, 1);
const std::string kIdentity = ModelWriter::bytes(1, "identity") + ModelWriter::number(3, 1) + ModelWriter::number(4, 0);

Tokenizer from_model(const std::string& bytes, const std::string& config = "") {
  return Tokenizer(parse_sentencepiece_files(bytes, {.config = config}, "tokenizer.model"));
}

TEST(SentencePiece, GivesTheIdsOfTheSameVocabularyAsJson) {
  const Tokenizer model = from_model(model_file(kTrainer, kIdentity)), json = make_tokenizer(character_json());
  for (const std::string text : {"ab", " ab  ab", "aab ba", "\u00e9c\n", "a\u00e4b", "\xff"}) {
    EXPECT_EQ(model.encode(text, kPlain), json.encode(text, kPlain)) << text;
    EXPECT_EQ(model.decode(model.encode(text)), text);
  }
}

TEST(SentencePiece, AmongMergesWithOneResultTheLeftmostGoesFirst) {
  // aa + a and a + aa both make aaa: of aaaa it is the first three, although the pair (a, aa) stands later in the list.
  const Tokenizer model = from_model(model_file(kTrainer, ModelWriter::number(3, 0) + ModelWriter::number(4, 0)));
  EXPECT_EQ(model.encode("aaa", kPlain), words({7}));
  EXPECT_EQ(model.encode("baaa", kPlain), words({2, 7}));
}

TEST(SentencePiece, PutsBosFirstUnlessTheConfigurationSaysNo) {
  const std::string bytes = model_file(kTrainer, kIdentity);
  EXPECT_EQ(from_model(bytes).encode("ab"), (Ids{1, kFirst + 5}));
  EXPECT_EQ(from_model(bytes).eos(), 2);
  EXPECT_EQ(from_model(bytes, R"({"add_bos_token": false, "bos_token": "<s>"})").encode("ab"), words({5}));
  EXPECT_EQ(from_model(bytes, R"({"add_bos_token": true, "bos_token": "<s>"})").encode("ab"), (Ids{1, kFirst + 5}));
}

TEST(SentencePiece, IsFoundInAFolderAndSavedAgain) {
  const TemporaryFolder folder, copy;
  write_file(folder / "tokenizer.model", model_file(kTrainer, kIdentity));
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(Tokenizer::load(folder / "tokenizer.model").encode("ab"), tokenizer.encode("ab"));
  tokenizer.save(copy.path());
  EXPECT_EQ(read_file(copy / "tokenizer.model"), read_file(folder / "tokenizer.model"));
}

TEST(SentencePiece, WhatIsNotSupportedOrDamagedIsNamed) {
  const auto refusal = [](const std::string& bytes) { return error_of<Error>([&] { from_model(bytes); }); };
  EXPECT_THAT(refusal(model_file(ModelWriter::number(3, 3), kIdentity)), HasSubstr("words or characters"));
  EXPECT_THAT(refusal(model_file(ModelWriter::number(3, 2), kIdentity)), HasSubstr("no byte fallback"));
  EXPECT_THAT(refusal(model_file(kTrainer, ModelWriter::bytes(1, "nmt_nfkc") + ModelWriter::bytes(2, "x"))),
              HasSubstr("the map of characters has 1 bytes"));
  EXPECT_THAT(refusal(model_file(kTrainer, ModelWriter::number(5, 0))), HasSubstr("treatment of blanks"));
  EXPECT_THAT(refusal(model_file(kTrainer, kIdentity) + ModelWriter::piece("x", 0, 4)), HasSubstr("user-defined"));
  EXPECT_THAT(refusal(model_file(kTrainer, kIdentity) + ModelWriter::piece("ab", 0, 1)),
              HasSubstr("\"ab\" occurs twice"));
  EXPECT_THAT(refusal(model_file(kTrainer, kIdentity) + ModelWriter::piece(std::string(4097, 'x'), 0, 1)),
              HasSubstr("a piece has 4097 bytes, expected at most 4096"));
  EXPECT_THAT(refusal(""), HasSubstr("it has no pieces"));
  EXPECT_THAT(refusal(ModelWriter::piece("a", 0, 1)), HasSubstr("it has no trainer settings"));
  EXPECT_THAT(refusal(ModelWriter::piece("a", 0, 1) + ModelWriter::bytes(2, kTrainer)),
              HasSubstr("it has no normalizer settings"));
  const std::string whole = model_file(kTrainer, kIdentity);
  for (size_t size = 1; size < whole.size(); size += 37) {
    EXPECT_THAT(refusal(whole.substr(0, size)), HasSubstr("tokenizer.model: ")) << size;
  }
}

}  // namespace
}  // namespace moe
