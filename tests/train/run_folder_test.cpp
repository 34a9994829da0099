// Which checkpoints stay, and what a killed or hindered process leaves of the others.

#include "train/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/remove_tree.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

void save(RunFolder& folder, int64_t step, const CheckpointConfig& keep) {
  folder.save_checkpoint(
      step, [&](const fs::path& path) { write_file(path / "content", std::to_string(step)); }, keep);
}

std::vector<std::string> names(const fs::path& path) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(path)) found.push_back(entry.path().filename().string());
  return found;
}

TEST(RunFolder, KeepsTheLastCheckpointsAndThoseOfEveryMultiple) {
  const struct {
    int64_t last, every;
    std::vector<std::string> kept;
  } cases[] = {{1, 0, {"step-7"}},
               {2, 0, {"step-6", "step-7"}},
               {3, 0, {"step-5", "step-6", "step-7"}},
               {10, 0, {"step-1", "step-2", "step-3", "step-4", "step-5", "step-6", "step-7"}},
               {1, 3, {"step-3", "step-6", "step-7"}},
               {2, 2, {"step-2", "step-4", "step-6", "step-7"}},
               {1, 100, {"step-7"}}};
  for (const auto& [last, every, kept] : cases) {
    const TemporaryFolder place;
    RunFolder folder(place / "run");
    for (int64_t step = 1; step <= 7; ++step) save(folder, step, {.keep_last = last, .keep_every = every});
    std::vector<std::string> expected = kept;
    expected.insert(expected.end(), {"latest", "lock"});
    EXPECT_THAT(names(place / "run"), testing::UnorderedElementsAreArray(expected)) << last << " " << every;
    EXPECT_EQ(fs::read_symlink(place / "run/latest"), "step-7");
    EXPECT_EQ(read_file(place / "run/latest/content"), "7");
  }
}

// As if it were killed while it removes: what is left must not count as a checkpoint.
TEST(RunFolder, AnOldCheckpointThatCannotBeRemovedIsAWarningAndNoCheckpoint) {
  const TemporaryFolder place;
  {
    RunFolder folder(place / "run");
    save(folder, 1, {.keep_last = 1});
    testing::internal::CaptureStderr();
    fail_removals(true);
    save(folder, 2, {.keep_last = 1});
    fail_removals(false);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("warning: cannot remove"));
    EXPECT_EQ(read_file(place / "run/latest/content"), "2");
    EXPECT_THAT(names(place / "run"), UnorderedElementsAre("step-1.removed", "step-2", "latest", "lock"));
  }
  RunFolder(place / "run");
  EXPECT_THAT(names(place / "run"), UnorderedElementsAre("step-2", "latest", "lock")) << "tried again";
}

// The states that a kill between two system calls can leave.
TEST(RunFolder, WhatAKilledProcessLeftIsSweptAndNothingElse) {
  const TemporaryFolder place;
  { RunFolder(place / "run"); }
  for (const char* name : {"step-5", "step-6.tmp", "step-4.removed", "step-4.removed/inner", "my-step-6.tmp",
                           "notes.tmp", "step-x.removed"}) {
    make_folder(place / "run" / name);
  }
  write_file(place / "run/step-6.tmp/trainer_state.json", "{}");
  write_file(place / "run/step-4.removed/trainer_state.json", "{}");
  fs::create_directory_symlink("step-6", place / "run/latest.tmp");
  RunFolder folder(place / "run");
  EXPECT_THAT(names(place / "run"),
              UnorderedElementsAre("step-5", "my-step-6.tmp", "notes.tmp", "step-x.removed", "lock"));
}

TEST(RunFolder, AFailedCheckpointLeavesTheOldOnesAndNoRest) {
  const TemporaryFolder place;
  RunFolder folder(place / "run");
  save(folder, 1, {});
  {
    const test::FullDisk full(0);
    EXPECT_THAT(error_of([&] { save(folder, 2, {}); }), HasSubstr("cannot write"));
  }
  EXPECT_THAT(names(place / "run"), UnorderedElementsAre("step-1", "latest", "lock"));
  EXPECT_EQ(fs::read_symlink(place / "run/latest"), "step-1");
}

TEST(RunFolder, IsOfOneProcessAtATime) {
  const TemporaryFolder place;
  const RunFolder folder(place / "run");
  EXPECT_THAT(error_of([&] { RunFolder(place / "run"); }), HasSubstr("in use by another process"));
}

}  // namespace
}  // namespace moe
