// The progress line says what matters at any width that terminals have.

#include "train/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe {
namespace {

using testing::HasSubstr;
using testing::Not;

const Progress kSmall{.step = 120,
                      .steps = 1000,
                      .loss = 3.2104,
                      .gradient_norm = 0.8512,
                      .learning_rate = 3e-3,
                      .tokens_per_second = 5321,
                      .seconds_left = 130,
                      .worst_load = 1.8,
                      .dropped = 0};
const Progress kLarge{.step = 123456,
                      .steps = 1000000,
                      .loss = 13.2104,
                      .gradient_norm = 123456,
                      .learning_rate = 1e-5,
                      .tokens_per_second = 1234567,
                      .seconds_left = 99 * 86400.0,
                      .worst_load = 12.34,
                      .dropped = 0.25};

TEST(ProgressText, SaysEverythingWhereThereIsRoom) {
  EXPECT_EQ(progress_text(kSmall, 160),
            "step  120/1000 | loss 3.210 | norm 0.85 | lr 3.0e-03 | 5.3k tokens/s | "
            "2m 10s left | load max/mean 1.80");
  EXPECT_THAT(progress_text(kLarge, 160), HasSubstr("25.0% dropped"));
}

TEST(ProgressText, KeepsStepLossNormRateAndTimeLeftAt80And60Columns) {
  for (const size_t width : {size_t{80}, size_t{79}, size_t{60}, size_t{59}}) {
    const std::string small = progress_text(kSmall, width), large = progress_text(kLarge, width);
    EXPECT_LE(small.size(), width) << small;
    EXPECT_LE(large.size(), width) << large;
    for (const char* part : {"120/1000", "3.210", "0.85", "5.3k", "2m 10s"}) EXPECT_THAT(small, HasSubstr(part));
    for (const char* part : {"123456/1000000", "13.210", "1e+05", "1.2M", "99d 00h"}) {
      EXPECT_THAT(large, HasSubstr(part));
    }
  }
  EXPECT_THAT(progress_text(kSmall, 59), HasSubstr("lr 3e-03"));
  EXPECT_THAT(progress_text(kSmall, 60), Not(HasSubstr("load")));
}

TEST(DurationText, HasTwoUnitsAtMost) {
  EXPECT_EQ(duration_text(0), "0s");
  EXPECT_EQ(duration_text(59.4), "59s");
  EXPECT_EQ(duration_text(60), "1m 00s");
  EXPECT_EQ(duration_text(3599.6), "1h 00m");
  EXPECT_EQ(duration_text(86400 * 3 + 7200), "3d 02h");
  EXPECT_EQ(duration_text(86400 * 365.0), "365d");
}

}  // namespace
}  // namespace moe
