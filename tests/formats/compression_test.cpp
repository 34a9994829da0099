#include "formats/compression.h"

#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "tests/support/compress.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::gzip;
using test::TemporaryFolder;
using test::zstd;
using testing::HasSubstr;

std::string read_all(const fs::path& path, size_t piece) {
  const auto stream = open_stream(path);
  std::string content;
  std::vector<char> buffer(piece);
  while (const size_t count = stream->read(buffer.data(), buffer.size())) content.append(buffer.data(), count);
  EXPECT_EQ(stream->read(buffer.data(), buffer.size()), 0u) << "the end stays the end";
  EXPECT_EQ(stream->consumed(), fs::file_size(path));
  return content;
}

// Compresses to about half: letters in random order.
std::string sample(size_t size) {
  std::mt19937 generator(static_cast<uint32_t>(size));
  std::string text(size, ' ');
  for (char& c : text) c = static_cast<char>('a' + generator() % 16);
  return text;
}

class Compression : public testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  TemporaryFolder folder_;
};

TEST_F(Compression, ReadsPlainGzipAndZstandardInPiecesOfAnySize) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1000}, size_t{3'000'000}}) {
    const std::string text = sample(size);
    for (const size_t piece : {size_t{1}, size_t{777}, size_t{1} << 20, size_t{8} << 20}) {
      if (piece == 1 && size > 1000) continue;
      EXPECT_TRUE(read_all(file("t.txt", text), piece) == text);
      EXPECT_TRUE(read_all(file("t.txt.gz", gzip(text)), piece) == text);
      EXPECT_TRUE(read_all(file("t.txt.zst", zstd(text)), piece) == text);
    }
  }
}

TEST_F(Compression, GoesByContentWhereTheNameSaysNothing) {
  EXPECT_EQ(read_all(file("a", gzip("hello")), 100), "hello");
  EXPECT_EQ(read_all(file("b", zstd("hello")), 100), "hello");
}

TEST_F(Compression, ReadsSeveralMembersAndFramesInARow) {
  EXPECT_EQ(read_all(file("a.gz", gzip("one ") + gzip("") + gzip("two")), 3), "one two");
  const std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0xyz", 11);
  EXPECT_EQ(read_all(file("b.zst", zstd("one ") + skippable + zstd("") + zstd("two")), 3), "one two");
  EXPECT_EQ(read_all(file("c.zst", skippable + zstd("one")), 3), "one");
}

TEST_F(Compression, ZerosBehindAGzipFileArePadding) {
  EXPECT_EQ(read_all(file("a.gz", gzip("one") + std::string(1000, '\0')), 100), "one");
}

TEST_F(Compression, EveryCutIsNoticed) {
  const std::string text = sample(600);
  for (const auto& [name, whole] : {std::pair<std::string, std::string>{"a.gz", gzip(text)}, {"a.zst", zstd(text)}}) {
    for (size_t size = 4; size < whole.size(); ++size) {
      const fs::path path = file(name, whole.substr(0, size));
      const std::string error = error_of<Error>([&] { read_all(path, 4096); });
      ASSERT_EQ(error,
                path.string() +
                    " is cut short: its compressed data ends before the end of its content; fetch or compress it "
                    "again")
          << size;
    }
  }
}

TEST_F(Compression, ACutInTheSecondMemberIsNoticed) {
  const std::string second = gzip("two");
  const fs::path path = file("a.gz", gzip("one") + second.substr(0, second.size() - 1));
  EXPECT_THAT(error_of<Error>([&] { read_all(path, 100); }), HasSubstr("is cut short"));
}

TEST_F(Compression, DamageIsNoticed) {
  const std::string text = sample(2000);
  for (const auto& [name, whole] : {std::pair<std::string, std::string>{"a.gz", gzip(text)}, {"a.zst", zstd(text)}}) {
    std::string damaged = whole;
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 0x55);
    const fs::path path = file(name, damaged);
    const std::string error = error_of<Error>([&] { read_all(path, 4096); });
    EXPECT_THAT(error, HasSubstr(path.string()));
    EXPECT_THAT(error, HasSubstr("is damaged"));
  }
  const fs::path garbage = file("b.gz", gzip(text) + "garbage");
  EXPECT_THAT(error_of<Error>([&] { read_all(garbage, 4096); }), HasSubstr("is damaged"));
}

TEST_F(Compression, ANameThatPromisesCompressionIsHeld) {
  const fs::path path = file("a.txt.zst", "plain");
  EXPECT_EQ(
      error_of<Error>([&] { open_stream(path); }),
      path.string() + " is not compressed, although its name says so: its content does not begin like a .zst file");
  EXPECT_THAT(error_of<Error>([&] { open_stream(file("b.gz", "x")); }),
              HasSubstr("not compressed, although its name says so"));
  EXPECT_NO_THROW(open_stream(file("c.gz", ""))) << "an empty file holds an empty text";
}

TEST_F(Compression, NamesWhatItCannotOpen) {
  EXPECT_EQ(error_of<Error>([&] { open_stream(folder_ / "none.txt"); }),
            "cannot open " + (folder_ / "none.txt").string() + ": No such file or directory");
  EXPECT_EQ(error_of<Error>([&] { open_stream(folder_.path()); }),
            "cannot read " + folder_.path().string() + ": it is a folder");
}

}  // namespace
}  // namespace moe
