// Whether the tokenizer in a GGUF file is that of a dataset: tokens, merges and words.

#include <algorithm>

#include <gtest/gtest.h>

#include "formats/compression.h"
#include "formats/gguf_writer.h"
#include "tests/support/small_dataset.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"
#include "tokenizer/gguf_tokenizer_entries.h"
#include "train/model_tokenizer.h"

namespace moe {
namespace {

using test::added_token;
using test::make_dataset_with;

const Json kConfig = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

/// A byte-level vocabulary with these merges and two special tokens behind them.
Json bytes_json(const std::vector<std::string>& merges) {
  Json json = test::tokenizer_json(merges);
  const auto ids = static_cast<int>(json["model"]["vocab"].size());
  json["added_tokens"] = {added_token(ids, "<s>", true), added_token(ids + 1, "</s>", true)};
  json["model"]["vocab"]["<s>"] = ids;
  json["model"]["vocab"]["</s>"] = ids + 1;
  json["model"]["ignore_merges"] = false;
  return json;
}

class GgufTokenizerMatch : public testing::Test {
 protected:
  fs::path folder(const std::string& name, const Json& json) {
    make_folder(files_ / name);
    write_file(files_ / name / "tokenizer.json", json.dump());
    write_file(files_ / name / "tokenizer_config.json", kConfig.dump());
    return files_ / name;
  }
  /// A GGUF file that has nothing but the tokenizer.
  std::string gguf(const Json& json) {
    const fs::path path = files_ / "model.gguf";
    const auto rows = static_cast<int64_t>(json["model"]["vocab"].size());
    GgufWriter(path, gguf_tokenizer_entries(folder("model", json), rows), {}).commit();
    return path.string();
  }
  TokenizerMatch match(const Json& data, const std::string& model, const std::vector<std::string>& new_tokens = {}) {
    const fs::path path = files_ / "data";
    fs::remove_all(path);
    make_dataset_with(path, folder("tokenizer", data), new_tokens);
    return match_tokenizer(Dataset(path.string()), model);
  }

  test::TemporaryFolder files_;
};

// The same tokens with merges in another order give other ids.
TEST_F(GgufTokenizerMatch, MergesOfBytesCountInTheirOrder) {
  const Json json = bytes_json({"a b", "b c", "ab c"});
  Json other = json;
  std::swap(other["model"]["merges"][0], other["model"]["merges"][1]);
  const auto ids = [](const Json& from) { return test::make_tokenizer(from).encode("abcd"); };
  ASSERT_NE(ids(json), ids(other));
  Json fewer = json;
  fewer["model"]["merges"].erase(2);
  const std::string model = gguf(json);
  EXPECT_EQ(match(json, model), TokenizerMatch::same);
  EXPECT_EQ(match(json, model, {"<|im_end|>"}), TokenizerMatch::grown);
  for (const Json& different : {other, fewer}) {
    EXPECT_EQ(match(different, model), TokenizerMatch::other);
    EXPECT_EQ(match(different, model, {"<|im_end|>"}), TokenizerMatch::other);
  }
}

// With the same tokens and merges: digits one by one or together, with and without composed characters.
TEST_F(GgufTokenizerMatch, TheDivisionIntoWordsCounts) {
  const Json json = bytes_json({"1 2", "12 3", "a b"});
  const std::string model = gguf(json);
  ASSERT_EQ(match(json, model), TokenizerMatch::same);
  Json digits = json;
  digits["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, json["pre_tokenizer"]}}};
  const auto ids = [](const Json& from) { return test::make_tokenizer(from).encode("x123"); };
  ASSERT_NE(ids(json), ids(digits));
  EXPECT_EQ(match(digits, model), TokenizerMatch::other);
  EXPECT_EQ(match(digits, model, {"<|im_end|>"}), TokenizerMatch::other);
}

// A GGUF file has scores of tokens: of the merges that make one token, the order is lost.
TEST_F(GgufTokenizerMatch, MergesOfCharactersCountInTheOrderOfTheirTokens) {
  const Json json = test::characters_json();
  const std::string model = gguf(json);
  EXPECT_EQ(match(json, model), TokenizerMatch::same);
  Json within = json, between = json;
  std::swap(within["model"]["merges"][3], within["model"]["merges"][4]);
  std::swap(between["model"]["merges"][0], between["model"]["merges"][2]);
  EXPECT_EQ(match(within, model), TokenizerMatch::same);
  EXPECT_EQ(match(between, model), TokenizerMatch::other);
}

// llama.cpp's converter has given the free rows of DeepSeek's models tokens of the kind of new ones.
TEST_F(GgufTokenizerMatch, TokensThatOnlyFillRowsDoNotCount) {
  const Json json = bytes_json({"a b"});
  const auto filled = [&](const char* last) {
    Json more = json;
    for (const char* content : {"[PAD259]", last}) {
      const auto id = static_cast<int>(more["model"]["vocab"].size());
      more["added_tokens"].push_back(added_token(id, content, false));
      more["model"]["vocab"][content] = id;
    }
    return more;
  };
  const std::string model = gguf(filled("[PAD260]"));
  ASSERT_EQ(Tokenizer::load(model).id_count(), 261);
  EXPECT_EQ(match(json, model), TokenizerMatch::same);
  EXPECT_EQ(match(filled("[PAD260]"), model), TokenizerMatch::same);
  EXPECT_EQ(match(json, model, {"<|im_end|>"}), TokenizerMatch::grown);
  EXPECT_EQ(match(json, gguf(filled("<|im_end|>"))), TokenizerMatch::other);
}

// As large as published vocabularies are; the last two merges are another's.
TEST_F(GgufTokenizerMatch, AVocabularyOf150000Tokens) {
  constexpr size_t kTokens = 150'000;
  std::vector<std::string> tokens, merges;
  for (size_t byte = 0; byte < 256; ++byte) tokens.emplace_back(byte_letters()[byte]);
  while (tokens.size() < kTokens) {
    const std::string left = tokens[merges.size() / 256], right = tokens[merges.size() % 256];
    merges.push_back(left + " " + right);
    tokens.push_back(left + right);
  }
  Json json = bytes_json(merges);
  const std::string model = gguf(json);
  EXPECT_EQ(match(json, model), TokenizerMatch::same);
  std::swap(json["model"]["merges"][merges.size() - 1], json["model"]["merges"][merges.size() - 2]);
  EXPECT_EQ(match(json, model), TokenizerMatch::other);
}

// Files of llama.cpp's own converter beside the folders that they were made of.
TEST_F(GgufTokenizerMatch, PublishedFilesAreThoseOfTheirFolders) {
  const fs::path shared = fs::path(MOE_SHARED_DIR) / "data/tokenizers";
  if (!fs::exists(shared)) GTEST_SKIP() << "no folder " << shared;
  const auto unpack = [&](const fs::path& from, const std::string& to) {
    const auto stream = open_stream(from);
    std::string bytes, buffer(size_t{1} << 16, '\0');
    for (size_t got; (got = stream->read(buffer.data(), buffer.size())) > 0;) bytes.append(buffer, 0, got);
    write_file(files_ / to, bytes);
    return (files_ / to).string();
  };
  const fs::path deepseek = files_ / "deepseek";
  make_folder(deepseek);
  unpack(shared / "deepseek-llm/tokenizer.json.zst", "deepseek/tokenizer.json");
  fs::copy(shared / "deepseek-llm/tokenizer_config.json", deepseek / "tokenizer_config.json");
  const std::string of_deepseek = unpack(shared / "llama_cpp_cases/ggml-vocab-deepseek-llm.gguf.zst", "deepseek.gguf");
  const std::string of_llama = unpack(shared / "llama_cpp_cases/ggml-vocab-llama-spm.gguf.zst", "llama.gguf");
  make_dataset_with(files_ / "of-deepseek", deepseek);
  make_dataset_with(files_ / "of-llama", shared / "llama2");
  const auto match_of = [&](const char* data, const std::string& model) {
    return match_tokenizer(Dataset((files_ / data).string()), model);
  };
  EXPECT_EQ(match_of("of-deepseek", of_deepseek), TokenizerMatch::same);
  EXPECT_EQ(match_of("of-llama", of_llama), TokenizerMatch::same);
  EXPECT_EQ(match_of("of-llama", of_deepseek), TokenizerMatch::other);
}

}  // namespace
}  // namespace moe
