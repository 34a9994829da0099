#include "base/file.h"

#include <csignal>
#include <fstream>
#include <sys/stat.h>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/mapped_ranges.h"
#include "base/progress_count.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::FullDisk;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(FileWriter, WritesSmallAndLargePiecesInOrder) {
  const TemporaryFolder folder;
  std::string expected;
  FileWriter writer(folder / "f");
  for (const size_t size : {size_t{1}, size_t{0}, size_t{5} << 20, size_t{17}, size_t{1} << 20, size_t{3}}) {
    const std::string piece(size, static_cast<char>('a' + expected.size() % 26));
    writer.write(piece);
    expected += piece;
    EXPECT_EQ(writer.size(), expected.size());
  }
  writer.commit();
  EXPECT_EQ(read_file(folder / "f"), expected);
  EXPECT_THAT(folder.files(), ElementsAre("f"));
}

// By it other ranks see that this one does not hang, however slow the disk is.
TEST(FileWriter, ShowsProgressWhileItWritesMuch) {
  const TemporaryFolder folder;
  FileWriter writer(folder / "f");
  const std::string piece(size_t{50} << 20, 'x');
  const uint64_t before = progress_count();
  writer.write(piece);
  EXPECT_GE(progress_count() - before, 4u);
  EXPECT_FALSE(SystemWait::any());
}

TEST(FileWriter, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  { FileWriter(folder / "f").write("abc"); }
  EXPECT_THAT(folder.files(), IsEmpty());
}

TEST(FileWriter, KeepsTheOldFileUntilCommit) {
  const TemporaryFolder folder;
  write_file(folder / "f", "old");
  FileWriter writer(folder / "f");
  writer.write("new");
  EXPECT_EQ(read_file(folder / "f"), "old");
  writer.commit();
  EXPECT_EQ(read_file(folder / "f"), "new");
}

TEST(FileWriter, AFullDiskIsNamedAndLeavesTheOldFile) {
  const TemporaryFolder folder;
  write_file(folder / "f", "old");
  for (const int64_t room : {int64_t{0}, int64_t{5}, int64_t{3} << 20}) {
    const std::string error = error_of<Error>([&] {
      const FullDisk full(room);
      write_file(folder / "f", std::string(size_t{4} << 20, 'x'));
    });
    EXPECT_THAT(error, HasSubstr((folder / "f").string()));
    EXPECT_THAT(error, HasSubstr("No space left on device"));
    EXPECT_EQ(read_file(folder / "f"), "old");
    EXPECT_THAT(folder.files(), ElementsAre("f"));
  }
}

TEST(FileWriter, AMissingFolderIsNamed) {
  const TemporaryFolder folder;
  const std::string error = error_of<Error>([&] { FileWriter(folder / "no/f"); });
  EXPECT_THAT(error, HasSubstr("no/f"));
  EXPECT_THAT(error, HasSubstr("No such file or directory"));
}

TEST(FileAppender, KeepsWhatIsThere) {
  const TemporaryFolder folder;
  FileAppender(folder / "log").write("one\n");
  FileAppender(folder / "log").write("two\n");
  EXPECT_EQ(read_file(folder / "log"), "one\ntwo\n");
}

TEST(MappedFile, MapsWhatWasWritten) {
  const TemporaryFolder folder;
  write_file(folder / "f", std::string("a\0b", 3));
  EXPECT_EQ(MappedFile(folder / "f").text(), std::string_view("a\0b", 3));
}

TEST(MappedFile, AnEmptyFileIsEmpty) {
  const TemporaryFolder folder;
  write_file(folder / "f", "");
  EXPECT_TRUE(MappedFile(folder / "f").bytes().empty());
}

TEST(MappedFile, MovesWithItsMapping) {
  const TemporaryFolder folder;
  write_file(folder / "f", "abc");
  MappedFile first(folder / "f");
  MappedFile second(std::move(first));
  MappedFile third;
  third = std::move(second);
  EXPECT_EQ(third.text(), "abc");
  EXPECT_EQ(third.path(), folder / "f");
}

TEST(MappedFile, NamesWhatItCannotOpen) {
  const TemporaryFolder folder;
  EXPECT_EQ(error_of<Error>([&] { MappedFile(folder / "none"); }),
            "cannot open " + (folder / "none").string() + ": No such file or directory");
  EXPECT_EQ(error_of<Error>([&] { MappedFile(folder.path()); }),
            "cannot read " + folder.path().string() + ": it is a folder, expected a file");
}

// SIGBUS comes from a page of the mapping that the file no longer has.
TEST(MappedFile, AFileThatBecomesShorterEndsTheProgramWithASentence) {
  const TemporaryFolder folder;
  write_file(folder / "shrinks", std::string(3 * 65536, 'x'));
  const auto read_the_end = [&] {
    end_when_a_mapped_file_is_lost();
    const MappedFile moved = [&] { return MappedFile(folder / "shrinks"); }();
    fs::resize_file(folder / "shrinks", 1);
    volatile char last = moved.text().back();
    static_cast<void>(last);
  };
  EXPECT_EXIT(read_the_end(), testing::ExitedWithCode(1),
              "^error: .*shrinks cannot be read to its end: it became shorter");
}

// The handler must not hide a fault of the program itself.
TEST(MappedFile, OtherBusErrorsEndTheProgramByTheirSignal) {
  const auto raised = [] {
    end_when_a_mapped_file_is_lost();
    std::raise(SIGBUS);
  };
  EXPECT_EXIT(raised(), testing::KilledBySignal(SIGBUS), "^$");
}

TEST(ReadFile, WhatHasNoEndOrIsFarTooLargeIsRefused) {
  EXPECT_THAT(error_of<Error>([] { read_file("/dev/zero"); }), HasSubstr("/dev/zero: it has more than 256 MiB"));
  const TemporaryFolder folder;
  write_file(folder / "f", "x");
  fs::resize_file(folder / "f", (uintmax_t{1} << 30) + 1);
  EXPECT_THAT(error_of<Error>([&] { read_file(folder / "f"); }), HasSubstr("f: it has more than 1024 MiB"));
}

TEST(MappedFile, APipeIsReadWholeButNotMapped) {
  const TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const std::string text(300000, 'x');
  std::thread writer([&] { std::ofstream(pipe) << text; });
  EXPECT_EQ(read_file(pipe), text);
  writer.join();
  EXPECT_EQ(error_of<Error>([&] { MappedFile{pipe}; }),  // at once: nobody writes to it
            "cannot read " + pipe.string() + ": it is a pipe or a device, expected a file on a disk");
}

TEST(RenameIntoPlace, RefusesToReplace) {
  const TemporaryFolder folder;
  make_folder(folder / "a/b");
  make_folder(folder / "c");
  EXPECT_THAT(error_of<Error>([&] { rename_into_place(folder / "a", folder / "c"); }), HasSubstr("the latter exists"));
  rename_into_place(folder / "a", folder / "d");
  EXPECT_TRUE(fs::exists(folder / "d/b"));
  EXPECT_FALSE(fs::exists(folder / "a"));
}

}  // namespace
}  // namespace moe
