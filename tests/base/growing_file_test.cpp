#include "base/growing_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::FullDisk;
using test::TemporaryFolder;
using testing::HasSubstr;

TEST(GrowingFile, AppendsToWhatIsThere) {
  const TemporaryFolder folder;
  GrowingFile(folder / "log").write("one\n");
  GrowingFile appender(folder / "log");
  appender.write("two\n");
  EXPECT_EQ(read_file(folder / "log"), "one\ntwo\n");
  EXPECT_EQ(appender.sync(), 8);
}

TEST(GrowingFile, AFullDiskLeavesTheFileAsItWas) {
  const TemporaryFolder folder;
  GrowingFile appender(folder / "log");
  appender.write("one\n");
  {
    const FullDisk full(2);
    EXPECT_THAT(error_of<Error>([&] { appender.write("two\n"); }), HasSubstr((folder / "log").string()));
  }
  appender.write("three\n");
  EXPECT_EQ(read_file(folder / "log"), "one\nthree\n");
}

TEST(CutLines, KeepsWholeLinesOfAtMostSoManyBytes) {
  const TemporaryFolder folder;
  const fs::path log = folder / "log";
  EXPECT_EQ(cut_lines(log, 100), 0);
  EXPECT_EQ(read_file(log), "");
  write_file(log, "one\ntwo\nthree");
  EXPECT_EQ(cut_lines(log, 8), 8);
  EXPECT_EQ(read_file(log), "one\ntwo\n");
  EXPECT_EQ(cut_lines(log, 7), 4) << "a line that is cut goes";
  EXPECT_EQ(read_file(log), "one\n");
  EXPECT_EQ(cut_lines(log, 1000), 4) << "never lengthened";
  EXPECT_EQ(read_file(log), "one\n");
  const std::string longer(10000, 'x');
  write_file(log, "one\n" + longer);
  EXPECT_EQ(cut_lines(log, 9000), 4);
  write_file(log, longer);
  EXPECT_EQ(cut_lines(log, 9000), 0) << "no line feed at all";
}

}  // namespace
}  // namespace moe
