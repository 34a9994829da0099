#include "base/student.h"

#include <utility>

#include <gtest/gtest.h>

namespace moe {
namespace {

// From R: qt(0.975, n).
TEST(Student, IsThatOfPublishedTables) {
  EXPECT_NEAR(student_95(1), 12.7062, 5e-4);
  EXPECT_NEAR(student_95(2), 4.3027, 5e-4);
  EXPECT_NEAR(student_95(30), 2.0423, 5e-4);
  EXPECT_NEAR(student_95(31), 2.03951, 1e-5);
  EXPECT_NEAR(student_95(60), 2.00030, 1e-5);
  EXPECT_NEAR(student_95(120), 1.97993, 1e-5);
  EXPECT_NEAR(student_95(1000000), 1.95997, 1e-5);
}

TEST(Student, BetweenWholeDegreesIsALittleTooLarge) {
  for (const auto& [degrees, value] : {std::pair{1.5, 6.0167}, {2.5, 3.5747}, {7.3, 2.3451}}) {  // scipy.stats.t.ppf
    EXPECT_GE(student_95(degrees), value - 1e-3) << degrees;
    EXPECT_LE(student_95(degrees), value * (degrees < 2 ? 1.03 : 1.005)) << degrees;
  }
}

TEST(Student, FallsWithTheDegreesOfFreedom) {
  for (double degrees = 1; degrees < 200; degrees += 0.25) {
    EXPECT_GT(student_95(degrees), student_95(degrees + 0.25)) << degrees;
  }
}

}  // namespace
}  // namespace moe
