// Each mistake in a tokenizer's files, and the sentence a user sees.

#include "tokenizer/tokenizer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using test::added_token;
using test::error_of;
using test::make_tokenizer;
using test::TemporaryFolder;
using test::tokenizer_json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const Json& json, const std::string& config = "") {
  return error_of<Error>([&] { make_tokenizer(json, config); });
}

/// The error after one member (a JSON pointer) was set to `value`.
std::string refusal_with(const std::string& pointer, const Json& value) {
  Json json = tokenizer_json({"h e"});
  json[Json::json_pointer(pointer)] = value;
  return refusal(json);
}

TEST(TokenizerFiles, AMissingFolderFileOrVocabularyIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of<Error>([&] { Tokenizer::load(folder / "none"); }), HasSubstr("none"));
  EXPECT_THAT(error_of<Error>([&] { Tokenizer::load(folder.path()); }), HasSubstr("no tokenizer.json in this folder"));
  write_file(folder / "tokenizer.model", "x");
  EXPECT_THAT(error_of<Error>([&] { Tokenizer::load(folder.path()); }), HasSubstr("SentencePiece"));
}

TEST(TokenizerFiles, BadJsonIsLocated) {
  const TemporaryFolder folder;
  write_file(folder / "tokenizer.json", "{\n  \"model\": nul\n}");
  EXPECT_THAT(error_of<Error>([&] { Tokenizer::load(folder.path()); }),
              AllOf(HasSubstr("tokenizer.json: not valid JSON at line 2"), HasSubstr("invalid literal")));
}

TEST(TokenizerFiles, ABadConfigIsNamedAsTheConfig) {
  const TemporaryFolder folder;
  write_file(folder / "tokenizer.json", tokenizer_json().dump());
  write_file(folder / "tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_THAT(error_of<Error>([&] { Tokenizer::load(folder.path()); }),
              HasSubstr("tokenizer_config.json: bos_token is \"<s>\", which the vocabulary does not have"));
  EXPECT_THAT(refusal(tokenizer_json(), R"({"add_bos_token": true})"),
              HasSubstr("add_bos_token is true but bos_token"));
}

TEST(TokenizerFiles, UnsupportedComponentsAreNamed) {
  EXPECT_THAT(refusal_with("/normalizer", {{"type", "BertNormalizer"}}),
              HasSubstr("the normalizer BertNormalizer is not supported"));
  EXPECT_THAT(refusal_with("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}),
              HasSubstr("the normalizer Lowercase"));
  EXPECT_THAT(refusal_with("/normalizer", {{"type", "Prepend"}, {"prepend", ""}}),
              HasSubstr("the normalizer Prepend has an empty text"));
  EXPECT_THAT(refusal_with("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "a*"}}}, {"content", "b"}}),
              HasSubstr("Replace: the expression \"a*\" matches the empty text"));
  EXPECT_THAT(refusal_with("/decoder", {{"type", "Metaspace"}}), HasSubstr("the decoder Metaspace"));
  EXPECT_THAT(refusal_with("/post_processor", {{"type", "Unknown"}}), HasSubstr("the step Unknown"));
  EXPECT_THAT(refusal_with("/truncation", {{"max_length", 5}}), HasSubstr("truncation is set"));
  EXPECT_THAT(refusal_with("/padding", {{"strategy", {{"Fixed", 5}}}}), HasSubstr("padding to a fixed length"));
  EXPECT_THAT(refusal_with("/model/type", "WordPiece"), HasSubstr("the model type WordPiece"));
  EXPECT_THAT(refusal_with("/model/dropout", 0.1), HasSubstr("dropout is set"));
  EXPECT_THAT(refusal_with("/model/continuing_subword_prefix", "##"), HasSubstr("continuing_subword_prefix is set"));
  EXPECT_THAT(refusal_with("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix is set"));
}

TEST(TokenizerFiles, AddedTokensThatTheLibraryFailsOnOrTakesAtRandomAreNamed) {
  Json json = tokenizer_json();
  json["added_tokens"] = {added_token(256, "xy", false), added_token(257, " \t", false)};
  Json& word = json["added_tokens"][0];
  Json& blank = json["added_tokens"][1];
  blank["lstrip"] = true;
  EXPECT_NO_THROW(make_tokenizer(json));
  word["rstrip"] = true;
  EXPECT_THAT(refusal(json),
              AllOf(HasSubstr("tokenizer.json: the added token \" \\t\" has lstrip"), HasSubstr("\"xy\"")));
  blank["rstrip"] = true;
  EXPECT_NO_THROW(make_tokenizer(json));

  blank["rstrip"] = false;
  word["normalized"] = true;  // one token is looked for in the text as given, the other one in normalized text
  EXPECT_NO_THROW(make_tokenizer(json));
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "xy"}}}, {"content", ""}};
  EXPECT_THAT(refusal(json), HasSubstr("tokenizer.json: the normalizer leaves nothing of the added token \"xy\""));
  word["normalized"] = false;
  word["rstrip"] = false;
  EXPECT_NO_THROW(make_tokenizer(json));

  json["normalizer"] = {{"type", "NFKC"}};
  json["added_tokens"] = {added_token(256, "fi", false), added_token(257, "\uFB01", false)};
  EXPECT_NO_THROW(make_tokenizer(json));
  for (Json& token : json["added_tokens"]) token["normalized"] = true;
  EXPECT_THAT(refusal(json),
              HasSubstr("tokenizer.json: the normalizer makes one text of the added tokens \"fi\" and "));
}

TEST(TokenizerFiles, AnUnknownTokenIsRefusedOnlyWhereItCouldBeNeeded) {
  Json json = tokenizer_json();
  json["model"]["unk_token"] = "a";
  json["model"]["byte_fallback"] = true;
  EXPECT_EQ(make_tokenizer(json).encode("b"), test::Ids{'b'});
  json["model"]["vocab"].erase("b");
  json["model"]["vocab"]["bb"] = 'b';
  EXPECT_THAT(refusal(json), HasSubstr("unk_token is set and byte 0x62 has no token"));
}

TEST(TokenizerFiles, DamagedVocabulariesAndMergesAreNamed) {
  EXPECT_THAT(refusal_with("/model/vocab/zz", 5), HasSubstr("both have id 5"));
  EXPECT_THAT(refusal_with("/model/vocab/zz", -1), HasSubstr("\"zz\" has the id -1"));
  EXPECT_THAT(refusal_with("/model/vocab/zz", "5"), HasSubstr("expected an integer"));
  EXPECT_THAT(refusal_with("/model/vocab", 3), HasSubstr("\"vocab\" is an integer, expected an object"));
  EXPECT_THAT(refusal_with("/model/merges", Json::array({"h e", "x y"})),
              HasSubstr("needs the token \"xy\", which the vocabulary lacks"));
  EXPECT_THAT(refusal_with("/model/merges", Json::array({"he"})),
              HasSubstr("expected two tokens with one blank between"));
  EXPECT_THAT(refusal_with("/model/merges", Json::array({Json::array({"h", "e", "x"})})), HasSubstr("merge 1"));
  Json json = tokenizer_json();
  json.erase("model");
  EXPECT_THAT(refusal(json), HasSubstr("tokenizer.json: \"model\" is missing"));
}

TEST(TokenizerFiles, MergesMayBePairs) {
  Json json = tokenizer_json({"h e"});
  json["model"]["merges"] = Json::array({Json::array({"h", "e"})});
  EXPECT_EQ(make_tokenizer(json).encode("he"), test::Ids{256});
}

TEST(TokenizerFiles, AddedTokensMustHaveTheIdsOfTheLibrary) {
  EXPECT_THAT(refusal_with("/added_tokens", Json::array({added_token(300, "<s>", true)})),
              HasSubstr("\"<s>\" has the id 300, but the vocabulary gives it 257"));
  EXPECT_THAT(
      refusal_with("/added_tokens", Json::array({added_token(257, "<s>", true), added_token(258, "<s>", true)})),
      HasSubstr("\"<s>\" is listed twice"));
}

TEST(TokenizerFiles, TemplatesMustHoldTheTextOnce) {
  const auto post_processor = [](const Json& single) {
    return Json{{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", {{"x", {{"ids", {9999}}}}}}};
  };
  const Json text = {{"Sequence", {{"id", "A"}}}}, other = {{"Sequence", {{"id", "B"}}}};
  const auto special = [](const char* name) { return Json{{"SpecialToken", {{"id", name}}}}; };
  EXPECT_THAT(refusal_with("/post_processor", post_processor(Json::array({special("x")}))),
              HasSubstr("leaves the text out"));
  EXPECT_THAT(refusal_with("/post_processor", post_processor(Json::array({text, other}))), HasSubstr("more than once"));
  EXPECT_THAT(refusal_with("/post_processor", post_processor(Json::array({special("y"), text}))),
              HasSubstr("\"y\" is missing"));
  EXPECT_THAT(refusal_with("/post_processor", post_processor(Json::array({special("x"), text}))),
              HasSubstr("adds id 9999"));
}

Tokenizer with_side_files(const SideFiles& side, const Json& json = tokenizer_json({"h e"})) {
  return Tokenizer(parse_tokenizer_files(json.dump(), side, "m/tokenizer.json"));
}

std::string refusal_of(const SideFiles& side, const Json& json = tokenizer_json({"h e"})) {
  return error_of<Error>([&] { with_side_files(side, json); });
}

constexpr EncodeOptions kParsed{.parse_special = true};

TEST(TokenizerFiles, RobertaAndBertHaveATokenAtEachSide) {
  Json json = test::tokenizer_json({"a b"});
  json["post_processor"] = {{"type", "RobertaProcessing"}};
  json["post_processor"]["cls"] = Json::array({"!", 33});
  json["post_processor"]["sep"] = Json::array({"\"", 34});
  const test::Ids text = test::make_tokenizer(json).encode("ab", {.add_special = false});
  test::Ids expected = text;
  expected.insert(expected.begin(), 33);
  expected.push_back(34);
  EXPECT_EQ(test::make_tokenizer(json).encode("ab"), expected);
  json["post_processor"]["type"] = "BertProcessing";
  EXPECT_EQ(test::make_tokenizer(json).encode("ab"), expected);
  json["post_processor"]["sep"] = "x";
  EXPECT_THAT(error_of<Error>([&] { test::make_tokenizer(json); }), HasSubstr("sep is \"x\", expected [\"text\", id]"));
}

TEST(SideFiles, TokensOfTheConfigurationAreAddedAndGoBeforeTokenizerJson) {
  Json json = tokenizer_json({"h e"});
  json["added_tokens"] = Json::array({added_token(257, "<a>", false)});
  const Tokenizer tokenizer = with_side_files(
      {.config = R"({"added_tokens_decoder": {"300": {"content": "<c>", "special": true, "normalized": false},
                     "257": {"content": "<a>", "special": true}}, "eos_token": "<c>"})"},
      json);
  EXPECT_THAT(tokenizer.encode("he<c><a>", kParsed), ElementsAre(256, 300, 257));
  EXPECT_TRUE(tokenizer.is_special(257)) << "not special by tokenizer.json";
  EXPECT_EQ(tokenizer.eos(), 300);
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{256, 300}), "he");
}

TEST(SideFiles, AddedTokensJsonCountsWhereTheConfigurationListsNone) {
  const std::string added = R"({"<x>": 258, "word": 257})";
  const Tokenizer tokenizer = with_side_files({.added_tokens = added, .special_tokens_map = R"({"bos_token": "<x>"})"});
  EXPECT_THAT(tokenizer.encode("<x>a word", kParsed), ElementsAre(258, 'a', ' ', 257));
  EXPECT_EQ(tokenizer.bos(), 258);
  EXPECT_TRUE(tokenizer.is_special(258));
  EXPECT_FALSE(tokenizer.is_special(257));
  const Tokenizer listed = with_side_files({.config = R"({"added_tokens_decoder": {}})", .added_tokens = added});
  EXPECT_EQ(listed.encode("word").size(), 4u);
}

TEST(SideFiles, TheMapGoesBeforeAnOldConfigurationAndAfterANewOne) {
  Json json = tokenizer_json({"h e"});
  json["added_tokens"] = Json::array({added_token(257, "<a>", true), added_token(258, "<b>", true)});
  const std::string map = R"({"eos_token": {"content": "<b>", "lstrip": false}, "pad_token": "<b>"})";
  EXPECT_EQ(with_side_files({.config = R"({"eos_token": "<a>"})", .special_tokens_map = map}, json).eos(), 258);
  const Tokenizer newer = with_side_files(
      {.config = R"({"eos_token": "<a>", "added_tokens_decoder": {}})", .special_tokens_map = map}, json);
  EXPECT_EQ(newer.eos(), 257);
  EXPECT_EQ(newer.pad(), 258);
}

TEST(SideFiles, ARoleMakesAWordOfTheVocabularySpecial) {
  const Tokenizer tokenizer = with_side_files({.special_tokens_map = R"({"eos_token": "he"})"});
  EXPECT_TRUE(tokenizer.is_special(256));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{256, 'y'}), "y");
}

TEST(SideFiles, ContradictionsAreNamed) {
  EXPECT_THAT(refusal_of({.added_tokens = R"({"he": 300})"}),
              HasSubstr("m/added_tokens.json: \"he\" has the id 300, but the vocabulary gives it 256"));
  EXPECT_THAT(refusal_of({.added_tokens = R"({"new": 256})"}), HasSubstr("which is that of \"he\""));
  EXPECT_THAT(refusal_of({.added_tokens = R"({"new": -1})"}), HasSubstr("expected 0 to"));
  EXPECT_THAT(refusal_of({.added_tokens = "[]"}), HasSubstr("m/added_tokens.json: found"));
  EXPECT_THAT(refusal_of({.config = R"({"added_tokens_decoder": {"x": {"content": "a"}}})"}),
              HasSubstr("the key \"x\" is not a token id"));
  EXPECT_THAT(refusal_of({.config = R"({"added_tokens_decoder": []})"}), HasSubstr("added_tokens_decoder is"));
  EXPECT_THAT(refusal_of({.special_tokens_map = R"({"bos_token": "<gone>"})"}),
              HasSubstr("m/special_tokens_map.json: bos_token is \"<gone>\", which the vocabulary does not have"));
}

TEST(SideFiles, AreSavedAgain) {
  const TemporaryFolder from, to;
  write_file(from / "tokenizer.json", tokenizer_json().dump());
  write_file(from / "added_tokens.json", R"({"<x>": 256})");
  write_file(from / "special_tokens_map.json", R"({"bos_token": "<x>"})");
  Tokenizer::load(from.path()).save(to.path());
  EXPECT_THAT(to.files(), ElementsAre("added_tokens.json", "special_tokens_map.json", "tokenizer.json"));
  EXPECT_EQ(Tokenizer::load(to.path()).bos(), 256);
}

}  // namespace
}  // namespace moe
