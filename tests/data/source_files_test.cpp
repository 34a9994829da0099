#include "data/source_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

class SourceFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"b.txt", "a.jsonl.gz", "sub/c.md", "sub/deep/d.py", "sub/deep/e.png", ".git/f.txt",
                             "sub/.hidden.txt", "code/train.jsonl", "prose/train.jsonl"}) {
      make_folder((folder_ / name).parent_path());
      write_file(folder_ / name, "x");
    }
  }
  std::vector<std::string> found(const std::string& what) {
    std::vector<std::string> names;
    for (const fs::path& file : find_source_files((folder_ / what).string()).files) {
      names.push_back(file.lexically_relative(folder_.path()).string());
    }
    return names;
  }
  test::TemporaryFolder folder_;
};

TEST_F(SourceFilesTest, OfAFolderAllThatCanBeReadIsFoundInOrder) {
  EXPECT_THAT(found(""),
              ElementsAre("a.jsonl.gz", "b.txt", "code/train.jsonl", "prose/train.jsonl", "sub/c.md", "sub/deep/d.py"));
  EXPECT_THAT(found("sub/"), ElementsAre("sub/c.md", "sub/deep/d.py"));
  const SourceFiles sub = find_source_files((folder_ / "sub").string());
  EXPECT_EQ(sub.domain, "sub");
  EXPECT_THAT(sub.left_out,
              ElementsAre(std::pair<const std::string, int64_t>(".png", 1),
                          std::pair<const std::string, int64_t>("hidden (their names begin with a dot)", 1)));
  EXPECT_EQ(find_source_files((folder_ / "sub/").string()).domain, "sub");
}

TEST_F(SourceFilesTest, PatternsMatchNamesFoldersAndAnyFolders) {
  EXPECT_THAT(found("*.txt"), ElementsAre("b.txt"));
  EXPECT_THAT(found("*/train.jsonl"), ElementsAre("code/train.jsonl", "prose/train.jsonl"));
  EXPECT_THAT(found("**/*.[mp][dy]"), ElementsAre("sub/c.md", "sub/deep/d.py"));
  EXPECT_THAT(found("?.txt"), ElementsAre("b.txt"));
  EXPECT_EQ(find_source_files((folder_ / "*/train.jsonl").string()).domain, "") << "each file has its own";
  EXPECT_EQ(find_source_files((folder_ / "code/*.jsonl").string()).domain, "code");
}

TEST_F(SourceFilesTest, AFileIsItselfEvenWithTheLettersOfAPattern) {
  write_file(folder_ / "a[1].txt", "x");
  EXPECT_THAT(found("a[1].txt"), ElementsAre("a[1].txt"));
  EXPECT_THAT(find_source_files("-").files, ElementsAre("-"));
  EXPECT_THAT(find_source_files("no such.txt").files, ElementsAre("no such.txt"));
}

TEST_F(SourceFilesTest, FoldersThatLinkToEachOtherEnd) {
  fs::create_directory_symlink("..", folder_ / "sub/up");
  EXPECT_THAT(found("sub"), testing::IsSupersetOf({"sub/c.md", "sub/deep/d.py"}));
}

TEST_F(SourceFilesTest, WhatFindsNothingOrWouldLoseDocumentsIsRefused) {
  EXPECT_THAT(error_of<UsageError>([&] { found("*.csv"); }), HasSubstr("no file matches"));
  make_folder(folder_ / "empty");
  EXPECT_THAT(error_of<UsageError>([&] { found("empty"); }), HasSubstr("no file that can be read"));
  write_file(folder_ / "sub/part.parquet", "x");
  EXPECT_THAT(error_of<UsageError>([&] { found("sub"); }), HasSubstr("part.parquet is Parquet"));
}

}  // namespace
}  // namespace moe
