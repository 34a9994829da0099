#include "base/shell.h"

#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

TEST(Shell, GivesTheStatusOfTheCommand) {
  EXPECT_EQ(run_in_shell("exit 0", {}), 0);
  EXPECT_EQ(run_in_shell("exit 7", {}), 7);
  EXPECT_EQ(run_in_shell("kill -9 $$", {}), 128 + SIGKILL);
  EXPECT_EQ(run_in_shell("/no/such/program 2>/dev/null", {}), 127);
}

TEST(Shell, VariablesReplaceThoseOfTheProcessAndTheOthersStay) {
  test::TemporaryFolder folder;
  ::setenv("MOE_TEST_SHELL", "old", 1);
  ::setenv("MOE_TEST_SHELL_OTHER", "kept", 1);
  const fs::path out = folder.path() / "out";
  EXPECT_EQ(run_in_shell("echo \"$MOE_TEST_SHELL $MOE_TEST_SHELL_OTHER $TO\" >\"$TO\"",
                         {{"MOE_TEST_SHELL", "a 'new' one"}, {"TO", out.string()}}),
            0);
  EXPECT_EQ(read_file(out), "a 'new' one kept " + out.string() + "\n");
}

TEST(Shell, TheCommandHasNoInput) { EXPECT_EQ(run_in_shell("read line", {}), 1); }

TEST(Shell, TheCommandEndsByABrokenPipeAsUsual) {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(run_in_shell("kill -PIPE $$", {}), 128 + SIGPIPE);
  std::signal(SIGPIPE, before);
}

}  // namespace
}  // namespace moe
