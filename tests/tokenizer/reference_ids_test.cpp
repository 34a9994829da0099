// The cases that llama.cpp keeps beside its vocabularies: texts and the ids of the models' own tokenizers.

#include <iterator>
#include <sstream>

#include <gtest/gtest.h>

#include "formats/compression.h"
#include "tests/support/temporary_folder.h"
#include "tests/tokenizer/support.h"

namespace moe {
namespace {

using test::Ids;
using test::TemporaryFolder;

constexpr std::string_view kBetween = "\n__ggml_vocab_test__\n";

const fs::path& tokenizers() {
  static const fs::path folder = fs::path(MOE_SHARED_DIR) / "data" / "tokenizers";
  return folder;
}

void unpack(const fs::path& from, const fs::path& to) {
  const auto stream = open_stream(from);
  std::string bytes, buffer(size_t{1} << 16, '\0');
  for (size_t got; (got = stream->read(buffer.data(), buffer.size())) > 0;) bytes.append(buffer, 0, got);
  write_file(to, bytes);
}

std::vector<std::string> texts_of(const std::string& file) {
  std::vector<std::string> texts;
  for (size_t at = 0; at <= file.size();) {
    const size_t end = std::min(file.find(kBetween, at), file.size());
    texts.push_back(file.substr(at, end - at));
    at = end + kBetween.size();
  }
  return texts;
}

std::vector<Ids> ids_of(const std::string& file) {
  std::vector<Ids> cases;
  std::istringstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    cases.emplace_back(std::istream_iterator<int32_t>(numbers), std::istream_iterator<int32_t>());
  }
  return cases;
}

void expect_cases(const Tokenizer& tokenizer, const std::string& name) {
  const fs::path cases = tokenizers() / "llama_cpp_cases";
  const auto texts = texts_of(read_file(cases / ("ggml-vocab-" + name + ".gguf.inp")));
  const auto expected = ids_of(read_file(cases / ("ggml-vocab-" + name + ".gguf.out")));
  ASSERT_GE(expected.size(), 46u);
  ASSERT_GE(texts.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(tokenizer.encode(texts[i], {.add_special = false}), expected[i]) << "case " << i << ": " << texts[i];
    EXPECT_EQ(tokenizer.decode(expected[i]), texts[i]);
  }
}

class ReferenceIds : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(tokenizers())) GTEST_SKIP() << "no folder " << tokenizers();
  }

  void unpack_given(const std::string& name, const std::vector<std::string>& files) {
    for (const std::string& file : files) unpack(tokenizers() / name / (file + ".zst"), folder_ / file);
  }

  TemporaryFolder folder_;
};

TEST_F(ReferenceIds, DeepseekLlm) {
  unpack_given("deepseek-llm", {"tokenizer.json"});
  write_file(folder_ / "tokenizer_config.json", read_file(tokenizers() / "deepseek-llm" / "tokenizer_config.json"));
  const Tokenizer tokenizer = Tokenizer::load(folder_.path());
  expect_cases(tokenizer, "deepseek-llm");
  EXPECT_EQ(tokenizer.encode("Hello world"), (Ids{100000, 17464, 1843})) << "add_bos_token without a template";
  EXPECT_EQ(tokenizer.bos(), 100000);
  EXPECT_EQ(tokenizer.eos(), 100001);
}

TEST_F(ReferenceIds, Gpt2FromItsPairOfFiles) {
  unpack_given("gpt2", {"vocab.json", "merges.txt"});
  expect_cases(Tokenizer::load(folder_.path()), "gpt-2");
}

}  // namespace
}  // namespace moe
