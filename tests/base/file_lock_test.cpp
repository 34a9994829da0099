// One holder at a time.

#include "base/file_lock.h"

#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe::test {
namespace {

TEST(FileLock, IsHeldByOneObjectUntilItsEnd) {
  const TemporaryFolder folder;
  std::optional<FileLock> first(folder / "lock");
  FileLock second(folder / "lock");
  EXPECT_TRUE(first->try_lock());
  EXPECT_FALSE(second.try_lock());
  first.reset();
  EXPECT_TRUE(second.try_lock());
  FileLock other(folder / "other");
  EXPECT_TRUE(other.try_lock()) << "another file is another lock";
}

TEST(FileLock, NamesAFileThatCannotBe) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { FileLock(folder / "missing/lock"); }), testing::HasSubstr("missing/lock: No such file"));
}

}  // namespace
}  // namespace moe::test
