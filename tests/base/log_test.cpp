// When progress becomes a line of a log.

#include "base/log.h"

#include <gtest/gtest.h>

namespace moe::test {
namespace {

TEST(StatusLines, AreWrittenOnceAMinuteFromAMinuteAfterTheFirst) {
  StatusLines lines;
  EXPECT_FALSE(lines.due(1000)) << "a short command prints nothing";
  EXPECT_FALSE(lines.due(1059.9));
  EXPECT_TRUE(lines.due(1060));
  EXPECT_FALSE(lines.due(1060.1));
  EXPECT_FALSE(lines.due(1119.9));
  EXPECT_TRUE(lines.due(1500)) << "a long pause is one line";
  EXPECT_FALSE(lines.due(1559));
  EXPECT_TRUE(lines.due(1560));
}

}  // namespace
}  // namespace moe::test
