#include "base/output_path.h"

#include <fstream>
#include <functional>
#include <sys/stat.h>
#include <sys/wait.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/paths.h"
#include "base/temporary.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

/// Runs `work` in another process that ends without cleaning up, as a killed one does.
void in_a_killed_process(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
}

/// Runs `work` while another process writes the folder `target`.
void beside_another_writer(const fs::path& target, const std::function<void()>& work) {
  int ready[2], done[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(done), 0);
  char byte = 0;
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderWriter writer(target);
    write_file(writer.path() / "theirs", "x");
    if (::write(ready[1], &byte, 1) != 1 || ::read(done[0], &byte, 1) != 1) ::_exit(1);
    ::_exit(0);
  }
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  work();
  ASSERT_EQ(::write(done[1], &byte, 1), 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  for (const int end : {ready[0], ready[1], done[0], done[1]}) ::close(end);
}

std::vector<fs::path> entries(const TemporaryFolder& folder) { return folder_entries(folder.path()); }

TEST(OutputFile, IsRefusedBeforeTheWorkWhereNoneCanBeWritten) {
  const TemporaryFolder folder;
  make_folder(folder / "folder");
  write_file(folder / "file", "x");
  EXPECT_NO_THROW(check_output_file(folder / "new"));
  EXPECT_NO_THROW(check_output_file(folder / "file"));
  EXPECT_NO_THROW(check_output_file("/dev/null"));
  EXPECT_THAT(error_of<Error>([&] { check_output_file(folder / "folder"); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of<Error>([&] { check_output_file(folder / "new/"); }), HasSubstr("ends in a slash"));
  EXPECT_THAT(error_of<Error>([&] { check_output_file(folder / "no/new"); }), HasSubstr("does not exist"));
  EXPECT_THAT(error_of<Error>([&] { check_output_file(folder / "file/new"); }), HasSubstr("is not a folder"));
  EXPECT_THAT(error_of<UsageError>([&] { check_output_file(""); }), HasSubstr("empty"));
  EXPECT_EQ(folder.files(), std::vector<std::string>{"file"});
}

TEST(OutputFolder, IsRefusedBeforeTheWorkWhereNoneCanBeMade) {
  const TemporaryFolder folder;
  write_file(folder / "file", "x");
  EXPECT_NO_THROW(check_output_folder(folder / "new/in/new/"));
  EXPECT_THAT(error_of<Error>([&] { check_output_folder(folder / "file/"); }), HasSubstr("there is a file"));
  EXPECT_THAT(error_of<Error>([&] { check_output_folder(folder / "file/new"); }), HasSubstr("not a folder"));
  EXPECT_THAT(error_of<UsageError>([&] { FolderWriter("."); }), HasSubstr("give the folder a name"));
}

TEST(FolderWriter, ASlashAtTheEndChangesNothing) {
  const TemporaryFolder folder;
  for (const std::string name : {"a", "b/", "c//", "d/."}) {
    FolderWriter writer(folder / name);
    write_file(writer.path() / "f", name);
    writer.commit();
    EXPECT_EQ(read_file(folder / name.substr(0, 1) / "f"), name);
  }
  EXPECT_THAT(entries(folder), SizeIs(4));
}

TEST(FolderWriter, LeavesNothingWithoutCommitAndTouchesNobodysFiles) {
  const TemporaryFolder folder;
  for (const char* name : {"out.tmp", "out.moe-1.tmp", "out.moe-12-34.tmp", "out.moe-x-0123456789abcdef.tmp"}) {
    make_folder(folder / name);
    write_file(folder / name / "precious", "x");
  }
  const auto before = entries(folder);
  {
    const FolderWriter writer(folder / "out");
    write_file(writer.path() / "f", "x");
  }
  EXPECT_EQ(entries(folder), before);
  EXPECT_EQ(folder.files().size(), before.size());
}

TEST(FolderWriter, TheNextStartSweepsWhatKilledProcessesLeft) {
  const TemporaryFolder folder;
  in_a_killed_process([&] {
    auto* writer = new FolderWriter(folder / "out");
    write_file(writer->path() / "f", "x");
    (new FileWriter(folder / "file"))->write("x");
  });
  EXPECT_THAT(entries(folder), SizeIs(2));
  { const FolderWriter writer(folder / "other"); }
  EXPECT_THAT(entries(folder), IsEmpty());
  in_a_killed_process([&] { new FileWriter(folder / "file"); });
  EXPECT_THAT(entries(folder), SizeIs(1));
  check_output_file(folder / "other");
  EXPECT_THAT(entries(folder), IsEmpty());
}

TEST(FolderWriter, WhatALivingProcessWritesIsNeitherSweptNorWrittenTwice) {
  const TemporaryFolder folder;
  beside_another_writer(folder / "out", [&] {
    sweep_leftovers(folder.path());
    EXPECT_THAT(entries(folder), SizeIs(1));
    EXPECT_THAT(error_of<Error>([&] { FolderWriter(folder / "out"); }), HasSubstr("written by another process"));
    EXPECT_NO_THROW(FolderWriter(folder / "other"));
    EXPECT_THAT(entries(folder), SizeIs(1));
  });
  sweep_leftovers(folder.path());
  EXPECT_THAT(entries(folder), IsEmpty());
}

TEST(FolderWriter, FinishedWorkIsKeptWhereTheNameIsTakenMeanwhile) {
  const TemporaryFolder folder;
  FolderWriter writer(folder / "out");
  write_file(writer.path() / "f", "ours");
  make_folder(folder / "out");
  write_file(folder / "out/f", "theirs");
  EXPECT_THAT(error_of<Error>([&] { writer.commit(); }),
              HasSubstr("is complete and is now " + (folder / "out-2").string()));
  EXPECT_EQ(read_file(folder / "out/f"), "theirs");
  EXPECT_EQ(read_file(folder / "out-2/f"), "ours");
}

TEST(FolderWriter, AnEmptyFolderIsReplacedAndAFullOneOnlyOnDemand) {
  const TemporaryFolder folder;
  make_folder(folder / "out");
  const auto write = [&](const std::string& text) {
    FolderWriter writer(folder / "out");
    write_file(writer.path() / text, text);
    text == "one" ? writer.commit() : writer.commit_over();
  };
  write("one");
  write("two");
  EXPECT_THAT(folder.files(), ElementsAre("out/two"));
  EXPECT_THAT(entries(folder), SizeIs(1));
}

TEST(FolderWriter, NamesOfEveryLengthThatASystemAllowsAreWritten) {
  const TemporaryFolder folder;
  const std::string name(255, 'n');
  write_file(folder / name, "x");
  EXPECT_EQ(read_file(folder / name), "x");
  FolderWriter writer(folder / std::string(255, 'm'));
  writer.commit();
  EXPECT_THAT(entries(folder), SizeIs(2));
}

TEST(DiskCalls, ContentIsOnTheDiskBeforeANameStandsForIt) {
  const TemporaryFolder folder;
  std::vector<std::string> calls;
  note_disk_calls(&calls);
  FolderWriter writer(folder / "out");
  write_file(writer.path() / "f", "x");
  writer.commit();
  note_disk_calls(nullptr);
  EXPECT_THAT(calls, ElementsAre("sync f", "rename f", "sync folder out", "sync folder out", "rename out",
                                 "sync folder " + folder.path().filename().string()));
}

TEST(FileWriter, WritesThroughLinksAndToDevices) {
  const TemporaryFolder folder;
  write_file(folder / "f", "old");
  fs::create_symlink("f", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_EQ(read_file(folder / "f"), "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  write_file("/dev/null", "x");
  EXPECT_TRUE(is_stream("/dev/null"));
  EXPECT_THAT(error_of<Error>([] { write_file("/dev/full", "x"); }), HasSubstr("No space left on device"));
}

TEST(Paths, QuestionsThatTheSystemRefusesAreSentences) {
  const TemporaryFolder folder;
  const fs::path loop = folder / "loop";
  fs::create_symlink("loop", loop);
  for (const std::string& error :
       {error_of<Error>([&] { path_exists(loop); }), error_of<Error>([&] { is_folder(loop); }),
        error_of<Error>([&] { check_readable(loop); })}) {
    EXPECT_THAT(error, HasSubstr("cannot look at " + loop.string()));
  }
  EXPECT_THAT(error_of<Error>([&] { path_exists(folder / std::string(300, 'x')); }), HasSubstr("too long"));
  EXPECT_THAT(error_of<Error>([&] { folder_entries(folder / "none"); }), HasSubstr("none: No such file"));
  EXPECT_FALSE(path_exists(folder / "none"));
  EXPECT_EQ(file_bytes(folder / "none"), 0u);
  EXPECT_THAT(error_of<Error>([&] { check_readable(folder / "none"); }), HasSubstr("there is no such file"));
  EXPECT_THAT(error_of<Error>([&] { check_readable(folder.path()); }), HasSubstr("it is a folder"));
}

}  // namespace
}  // namespace moe
