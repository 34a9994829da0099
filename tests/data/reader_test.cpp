#include "data/reader.h"

#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/compress.h"
#include "tests/support/peak_memory.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Reader : public testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  std::vector<std::string> documents(const std::string& name, const std::string& content) {
    std::vector<std::string> found;
    for_each_document(file(name, content), [&](std::string_view text, uint64_t) { found.emplace_back(text); });
    return found;
  }
  std::string refusal(const std::string& name, const std::string& content) {
    const std::string error = error_of<Error>([&] { documents(name, content); });
    EXPECT_TRUE(error.starts_with((folder_ / name).string())) << error;
    return error.substr(std::min(error.size(), (folder_ / name).string().size()));
  }
  TemporaryFolder folder_;
};

TEST_F(Reader, JsonLinesGiveTheFieldTextOfEachLine) {
  EXPECT_THAT(documents("a.jsonl",
                        "{\"text\": \"one\\ntwo\"}\n{\"id\": {\"text\": 3}, \"text\": \"\\u00fc \\ud83d\\ude00\"}\n"),
              ElementsAre("one\ntwo", "ü 😀"));
}

TEST_F(Reader, OfATextThatOccursTwiceTheLastCounts) {
  EXPECT_THAT(documents("a.jsonl", "{\"text\": \"one\", \"n\": 1, \"text\": \"two\"}\n"), ElementsAre("two"));
  EXPECT_THAT(documents("b.jsonl", "{\"text\": 1, \"text\": \"two\"}\n"), ElementsAre("two"));
  EXPECT_THAT(refusal("c.jsonl", "{\"text\": \"one\", \"text\": 2}\n"), HasSubstr("is no string but number"));
}

TEST_F(Reader, NumbersBeyondAnyIntegerAndEscapedNamesAreRead) {
  EXPECT_THAT(documents("a.jsonl", "{\"n\": 123456789012345678901234567890, \"text\": \"one\"}\n"), ElementsAre("one"));
  EXPECT_THAT(documents("b.jsonl", "{\"\\u0074ext\": \"a\\u0000b\"}\n"), ElementsAre(std::string("a\0b", 3)));
}

TEST_F(Reader, TheLastLineNeedsNoEndAndWindowsLineEndsAreFine) {
  EXPECT_THAT(documents("a.jsonl", "{\"text\": \"one\"}\r\n{\"text\": \"two\"}"), ElementsAre("one", "two"));
}

TEST_F(Reader, BlankLinesAndDocumentsWithoutTextAreSkipped) {
  EXPECT_THAT(documents("a.jsonl", "\n  \t\r\n{\"text\": \"one\"}\n\n{\"text\": \"\"}\n\n"), ElementsAre("one"));
  EXPECT_THAT(documents("empty.jsonl", ""), IsEmpty());
  EXPECT_THAT(documents("empty.txt", ""), IsEmpty());
}

TEST_F(Reader, AByteOrderMarkIsDroppedAtTheBeginningOnly) {
  EXPECT_THAT(documents("a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\"}\n"), ElementsAre("one"));
  EXPECT_THAT(documents("a.txt", "\xEF\xBB\xBFone\xEF\xBB\xBF"), ElementsAre("one\xEF\xBB\xBF"));
  EXPECT_THAT(documents("b.txt", "\xEF\xBB\xBF"), IsEmpty());
  EXPECT_THAT(documents("c.txt", "\xEF\xBB"), ElementsAre("\xEF\xBB"));
}

TEST_F(Reader, CompressedFilesReadLikePlainOnes) {
  const std::string lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  EXPECT_THAT(documents("a.jsonl.gz", test::gzip(lines)), ElementsAre("one", "two"));
  EXPECT_THAT(documents("a.jsonl.zst", test::zstd(lines)), ElementsAre("one", "two"));
  EXPECT_THAT(documents("a.txt.gz", test::gzip("some text")), ElementsAre("some text"));
  EXPECT_THAT(documents("a.txt.zst", test::zstd("some text")), ElementsAre("some text"));
}

TEST_F(Reader, BadLinesAreNamedWithFileAndLine) {
  const std::string good = "{\"text\": \"one\"}\n\n";
  EXPECT_EQ(
      refusal("a.jsonl", good + "{\"text\": \"two\""),
      ":3: this line is not valid JSON (near its byte 15: unexpected end of input; expected '}'), expected an object "
      "with a field \"text\"");
  EXPECT_EQ(
      refusal("b.jsonl", good + "{\"Text\": \"two\", \"n\": 1}\n"),
      ":3: this object has no field \"text\" (its fields: \"Text\", \"n\"); rename the one that holds the document");
  EXPECT_EQ(refusal("c.jsonl", good + "{}\n"),
            ":3: this object has no field \"text\" (its fields: none); rename the one that holds the document");
  EXPECT_EQ(refusal("d.jsonl", good + "{\"text\": 3}\n"), ":3: the field \"text\" is no string but number");
  EXPECT_EQ(refusal("e.jsonl", good + "[\"text\"]\n"),
            ":3: this line is no JSON object, expected one with a field \"text\"");
  EXPECT_THAT(refusal("f.jsonl", good + "{\"text\": \"\xff\xfe\"}\n"), HasSubstr(":3: this line is not valid JSON"));
  EXPECT_THAT(refusal("g.jsonl", good + "{\"text\": \"\\ud800\"}\n"), HasSubstr("surrogate"));
}

TEST_F(Reader, AnErrorDoesNotRepeatTheWholeLine) {
  EXPECT_LT(refusal("a.jsonl", "{\"text\": \"" + std::string(100000, 'x') + "\n").size(), 300u);
}

TEST_F(Reader, NamesOfOtherKindsAreRefusedBeforeReading) {
  for (const char* name : {"a.csv", "a", "a.json", "a.zst", "a.txt.bz2"}) {
    EXPECT_EQ(
        error_of<UsageError>([&] { check_document_file(name); }),
        std::string(name) +
            ": cannot tell from its name how to read it, expected .txt or .jsonl, plain or followed by .gz or .zst");
  }
}

TEST_F(Reader, ATextOfUpToAMebibyteIsOneDocument) {
  const std::string text(kTextPieceBytes, 'x');
  EXPECT_THAT(documents("a.txt", text), ElementsAre(text));
}

TEST_F(Reader, ALongerTextIsCutBehindTheLastBlankLineOfEachMebibyte) {
  std::string text;
  while (text.size() < 3 * kTextPieceBytes) text += "A line of text.\nAnother one.\n\n";
  const auto found = documents("a.txt", text);
  ASSERT_EQ(found.size(), 4u);
  std::string joined;
  for (const std::string& piece : found) {
    EXPECT_LE(piece.size(), kTextPieceBytes);
    EXPECT_TRUE(piece.starts_with("A line"));
    EXPECT_TRUE(piece.ends_with("\n\n"));
    joined += piece;
  }
  EXPECT_EQ(joined, text);
}

TEST_F(Reader, WithoutBlankLinesItIsCutBehindALineEndOrElseBetweenCharacters) {
  std::string lines;
  while (lines.size() < kTextPieceBytes + 1000) lines += "A line of text.\r\n";
  const auto by_lines = documents("a.txt", lines);
  ASSERT_EQ(by_lines.size(), 2u);
  EXPECT_TRUE(by_lines[0].ends_with("text.\r\n"));
  EXPECT_EQ(by_lines[0] + by_lines[1], lines);

  for (const std::string prefix : {"", "a", "ab"}) {
    std::string characters = prefix;
    while (characters.size() < kTextPieceBytes + 1000) characters += "中";
    const auto pieces = documents("b.txt", characters);
    ASSERT_EQ(pieces.size(), 2u);
    EXPECT_TRUE(pieces[1].starts_with("中"));
    EXPECT_EQ(pieces[0] + pieces[1], characters);
  }
  const std::string noise(kTextPieceBytes + 10, '\x80');
  const auto pieces = documents("c.txt", noise);
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0] + pieces[1], noise);
}

TEST_F(Reader, ReportsHowMuchOfTheFileIsRead) {
  std::string lines;
  for (int i = 0; i < 100000; ++i) lines += "{\"text\": \"some document\"}\n";
  uint64_t last = 0;
  bool grows = true;
  for_each_document(file("a.jsonl", lines), [&](std::string_view, uint64_t read) {
    grows = grows && read >= last;
    last = read;
  });
  EXPECT_TRUE(grows);
  EXPECT_EQ(last, lines.size());
}

TEST_F(Reader, MemoryDoesNotGrowWithTheInput) {
  if (!test::kMemoryIsMeasurable) GTEST_SKIP() << "memory cannot be measured under a sanitizer";
  const fs::path small = file("small.jsonl.zst", test::zstd("{\"text\": \"x\"}\n"));
  std::string line = "{\"text\": \"" + std::string(5000, 'y') + "\"}\n";
  std::string block;
  for (int i = 0; i < 1000; ++i) block += line;
  const std::string frame = test::zstd(block);
  std::string frames;
  for (int i = 0; i < 16; ++i) frames += frame;
  const fs::path large = file("large.jsonl.zst", frames);
  const auto read = [](const fs::path& path) {
    uint64_t bytes = 0;
    for_each_document(path, [&](std::string_view text, uint64_t) { bytes += text.size(); });
    return bytes;
  };
  const int64_t for_small = test::peak_memory_of([&] { read(small); });
  const int64_t for_large = test::peak_memory_of([&] { EXPECT_EQ(read(large), 16u * 1000 * 5000); });
  EXPECT_LT(for_large - for_small, int64_t{20} << 20) << "80 MB of documents were read";
}

TEST(DomainOf, IsTheNameOfTheFileOrOfItsFolderForASplit) {
  EXPECT_EQ(domain_of("corpus/code.txt"), "code");
  EXPECT_EQ(domain_of("code.jsonl.zst"), "code");
  EXPECT_EQ(domain_of("text/code/train.jsonl.zst"), "code");
  EXPECT_EQ(domain_of("text/zh/valid.jsonl"), "zh");
  EXPECT_EQ(domain_of("text/./zh/test.txt.gz"), "zh");
  EXPECT_EQ(domain_of("/train.txt"), "train");
  EXPECT_EQ(domain_of("train.txt"), fs::current_path().filename().string());
}

}  // namespace
}  // namespace moe
