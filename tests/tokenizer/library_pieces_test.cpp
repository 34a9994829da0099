// Where the `tokenizers` library cuts: library_pieces.json has texts and the sizes of its pieces, written down by
// compare_code_points.py --write. The test tokenizer_code_points compares every code point with the library itself.

#include <sstream>

#include <gtest/gtest.h>

#include "formats/json.h"
#include "tokenizer/pre_tokenizer.h"

namespace moe {
namespace {

std::string sizes_of_pieces(const PreTokenizer& pre_tokenizer, std::string_view text) {
  RegexScratch scratch;
  std::string sizes;
  pre_tokenizer.for_each_word(text, scratch, [&](std::string_view word) {
    if (!sizes.empty()) sizes += ' ';
    sizes += std::to_string(word.size());
  });
  return sizes;
}

TEST(LibraryPieces, TextsAreCutAsByTheLibrary) {
  const std::string file = MOE_SOURCE_DIR "/tests/tokenizer/library_pieces.json";
  const Json root = parse_json(read_file(file), file);
  const Json& texts = root.at("texts");
  ASSERT_GE(texts.size(), 100u);
  ASSERT_GE(root.at("cases").size(), 10u);
  for (const Json& each : root.at("cases")) {
    const std::string name = each.at("name");
    const PreTokenizer pre_tokenizer(each.at("pre_tokenizer"), name);
    ASSERT_EQ(each.at("sizes").size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string text = texts[i];
      EXPECT_EQ(sizes_of_pieces(pre_tokenizer, text), each.at("sizes")[i].get<std::string>())
          << name << ": " << texts[i];
    }
  }
}

}  // namespace
}  // namespace moe
