// Ids of the `tokenizers` library for a small tokenizer that this program trained (make_small_reference.py): what
// reference_ids_test.cpp does with published ones, wherever the sources are.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using test::Ids;
using test::make_tokenizer;
using test::TemporaryFolder;

constexpr EncodeOptions kPlain{.add_special = false};

Json read(const std::string& name) {
  const std::string path = MOE_SOURCE_DIR "/tests/tokenizer/small/" + name;
  return parse_json(read_file(path), path);
}

void expect_ids(const Tokenizer& tokenizer, const Json& reference, const Json& each) {
  const Json& texts = reference.at("texts");
  ASSERT_EQ(each.at("ids").size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    const Ids ids = each.at("ids")[i];
    EXPECT_EQ(tokenizer.encode(text, kPlain), ids) << each.at("name") << ": " << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

TEST(SmallReference, IdsAreTheLibrarysUnderEveryPublishedExpression) {
  const Json reference = read("reference.json");
  ASSERT_EQ(reference.at("cases").size(), 7u);
  for (const Json& each : reference.at("cases")) {
    Json json = read("tokenizer.json");
    json["pre_tokenizer"] = each.at("pre_tokenizer");
    expect_ids(make_tokenizer(json), reference, each);
  }
}

TEST(SmallReference, TheFilesAsTheyAreAddBos) {
  const Json reference = read("reference.json");
  const Tokenizer tokenizer = Tokenizer::load(MOE_SOURCE_DIR "/tests/tokenizer/small");
  for (const Json& each : reference.at("cases")) {
    if (each.at("name") != "trained") continue;
    expect_ids(tokenizer, reference, each);
    Ids expected = each.at("ids")[0];
    expected.insert(expected.begin(), 0);
    EXPECT_EQ(tokenizer.encode(reference.at("texts")[0].get<std::string>()), expected);
  }
}

TEST(SmallReference, APairOfFilesIsReadAsGpt2s) {
  const Json reference = read("reference.json");
  const Json model = read("tokenizer.json").at("model");
  const TemporaryFolder folder;
  write_file(folder / "vocab.json", model.at("vocab").dump());
  std::string merges = "#version: 0.2\n";
  for (const Json& merge : model.at("merges")) merges += merge.get<std::string>() + "\n";
  write_file(folder / "merges.txt", merges);
  for (const Json& each : reference.at("cases")) {
    if (each.at("name") == "gpt2") expect_ids(Tokenizer::load(folder.path()), reference, each);
  }
}

// One text after the other through one tokenizer, so that its caches hold the words of all of them.
TEST(SmallReference, AllTextsTogetherAndAgainGiveTheSame) {
  const Json reference = read("reference.json");
  const Tokenizer tokenizer = Tokenizer::load(MOE_SOURCE_DIR "/tests/tokenizer/small");
  for (const Json& each : reference.at("cases")) {
    if (each.at("name") != "trained") continue;
    for (int round = 0; round < 3; ++round) expect_ids(tokenizer, reference, each);
  }
}

}  // namespace
}  // namespace moe
