// Tokenizers in GGUF files: of a folder, in a file, and back. The ids of published ones are compared with llama.cpp's
// by tests/gguf/compare_llama_cpp.py.

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"
#include "tokenizer/bpe.h"
#include "tokenizer/gguf_tokenizer_entries.h"

namespace moe {
namespace {

using test::added_token;
using test::characters_json;
using test::error_of;
using test::Ids;
using test::TemporaryFolder;
using testing::HasSubstr;

constexpr int64_t kRows = 300;

/// A byte-level tokenizer with 256 + 3 tokens, BOS before a text, and a gap at 261.
Json byte_level_json() {
  Json json = test::tokenizer_json({"a b", "ab c", "\u0120 a"});
  json["added_tokens"] = {added_token(259, "<s>", true), added_token(260, "</s>", true),
                          added_token(262, "<think>", false)};
  json["model"]["vocab"]["<s>"] = 259;
  json["model"]["vocab"]["</s>"] = 260;
  json["model"]["vocab"]["<think>"] = 262;
  json["model"]["ignore_merges"] = false;
  return json;
}
const Json kConfig = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_bos_token", true}};

class GgufTokenizer : public testing::Test {
 protected:
  std::vector<GgufEntry> entries_of(const Json& json, const Json& config, int64_t rows = kRows) {
    write_file(folder_ / "tokenizer.json", json.dump());
    write_file(folder_ / "tokenizer_config.json", config.dump());
    return gguf_tokenizer_entries(folder_.path(), rows);
  }
  std::string refusal(const Json& json, const Json& config = kConfig) {
    return error_of<Error>([&] { entries_of(json, config); });
  }
  fs::path write(const std::vector<GgufEntry>& entries) {
    const fs::path path = folder_ / "model.gguf";
    GgufWriter(path, entries, {}).commit();
    return path;
  }
  void expect_same_ids(const Json& json, const Json& config) {
    const fs::path path = write(entries_of(json, config));
    const Tokenizer own = Tokenizer::load(folder_.path()), other = Tokenizer::load(path);
    const TemporaryFolder saved;
    other.save(saved.path());
    const Tokenizer again = Tokenizer::load(saved.path());
    for (const std::string text :
         {"abc ab a", "aaaa  aab\n", "", " ", "<s>ab</s>", "<think>ab<think>", "\u00e9\xff \x01"}) {
      for (const bool parse : {false, true}) {
        const EncodeOptions options{.add_special = true, .parse_special = parse};
        EXPECT_EQ(other.encode(text, options), own.encode(text, options)) << text << parse;
        EXPECT_EQ(again.encode(text, options), own.encode(text, options)) << text << parse;
      }
      EXPECT_EQ(other.decode(other.encode(text)), own.decode(own.encode(text))) << text;
    }
    EXPECT_EQ(other.bos(), own.bos());
    EXPECT_EQ(other.eos(), own.eos());
    EXPECT_EQ(other.id_count(), own.id_count());
    for (int32_t id = 0; id < own.id_count(); ++id) EXPECT_EQ(other.has_token(id), own.has_token(id)) << id;
  }

  TemporaryFolder folder_;
};

TEST_F(GgufTokenizer, OfBytesHasItsIds) { expect_same_ids(byte_level_json(), kConfig); }

TEST_F(GgufTokenizer, OfCharactersHasItsIds) {
  expect_same_ids(characters_json(), {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}});
}

TEST_F(GgufTokenizer, HasATokenForEveryRow) {
  const GgufFile file(write(entries_of(byte_level_json(), kConfig)));
  const auto& tokens = *file.array("tokenizer.ggml.tokens", GgufKind::text);
  const auto& kinds = *file.array("tokenizer.ggml.token_type", GgufKind::i32);
  ASSERT_EQ(tokens.size(), static_cast<size_t>(kRows));
  ASSERT_EQ(kinds.size(), tokens.size());
  EXPECT_EQ(tokens[261], GgufValue::text("[PAD261]"));
  EXPECT_EQ(kinds[261], GgufValue::i32(5));
  EXPECT_EQ(kinds[260], GgufValue::i32(3));
  EXPECT_EQ(kinds[262], GgufValue::i32(4));
  EXPECT_EQ(kinds[0], GgufValue::i32(1));
  EXPECT_EQ(file.text("tokenizer.ggml.pre"), "gpt-2");
}

TEST_F(GgufTokenizer, WhatTheFormatCannotSayIsRefusedByName) {
  Json json = byte_level_json();
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("add_prefix_space"));
  json = byte_level_json();
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Punctuation"}, {"behavior", "Isolated"}}, {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
  EXPECT_THAT(refusal(json), HasSubstr("llama.cpp has no name for the way in which it cuts text into words"));
  json = byte_level_json();
  json["added_tokens"][0]["lstrip"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("takes blanks beside it"));
  json = characters_json();
  json["model"]["merges"] = {"a b", "a a", "\u2581 ab", "aa a", "a aa"};
  EXPECT_NO_THROW(entries_of(json, kConfig));
  json["model"]["merges"] = {"a b", "aa a", "a a", "\u2581 ab", "a aa"};
  EXPECT_THAT(refusal(json), HasSubstr("not in the order of a SentencePiece model"));
  json["model"]["merges"] = {"a b", "a a", "\u2581 ab", "aa a"};
  EXPECT_THAT(refusal(json), HasSubstr("spell a token but do not merge"));
  json = characters_json();
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}};
  EXPECT_THAT(refusal(json), HasSubstr("it puts a blank before some texts only"));
  EXPECT_THAT(error_of<Error>([&] { entries_of(byte_level_json(), kConfig, 200); }),
              HasSubstr("it has more ids than the model's 200"));
}

TEST_F(GgufTokenizer, WhatIsNotKnownInAFileIsRefusedByName) {
  const auto with = [&](const std::string& key, const GgufValue& value) {
    std::vector<GgufEntry> entries = entries_of(byte_level_json(), kConfig);
    std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.key == key; })->value = value;
    return error_of<Error>([&] { Tokenizer::load(write(entries)); });
  };
  EXPECT_THAT(with("tokenizer.ggml.pre", GgufValue::text("kimi-k2")),
              HasSubstr("tokenizer.ggml.pre is \"kimi-k2\", a way of cutting words that this program does not know"));
  EXPECT_THAT(with("tokenizer.ggml.model", GgufValue::text("bert")), HasSubstr("is \"bert\", expected \"gpt2\""));
  EXPECT_THAT(with("tokenizer.ggml.model", GgufValue::text("none")), HasSubstr("the file has no tokenizer"));
  EXPECT_THAT(with("tokenizer.ggml.tokens", GgufValue::texts({"a", "b"})), HasSubstr("2 tokens, but 300 kinds"));
  EXPECT_THAT(with("tokenizer.ggml.merges", GgufValue::texts({"a x"})), HasSubstr("which the vocabulary lacks"));
}

TEST_F(GgufTokenizer, TheNamesOfWaysOfCuttingAreThoseOfPublishedFiles) {
  // Llama 3's expression, as its file spells it.
  Json json = byte_level_json();
  const Json split = {{"type", "Split"},
                      {"pattern",
                       {{"Regex",
                         "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                         "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {split, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  const auto pre = [&] {
    for (const GgufEntry& entry : entries_of(json, kConfig)) {
      if (entry.key == "tokenizer.ggml.pre") return std::get<std::string>(entry.value.value);
    }
    return std::string();
  };
  EXPECT_EQ(pre(), "dbrx");
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(pre(), "llama-bpe");
}

}  // namespace
}  // namespace moe
