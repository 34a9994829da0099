#include "base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe {
namespace {

TEST(Error, FailFormatsItsSentence) {
  try {
    fail("{} has {} rows", "table", 3);
    FAIL();
  } catch (const UsageError&) {
    FAIL() << "a failure is no usage error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "table has 3 rows");
  }
}

TEST(Error, UsageErrorsAreErrorsToo) {
  EXPECT_THROW(fail_usage("no {}", 1), UsageError);
  EXPECT_THROW(fail_usage("no {}", 1), Error);
}

TEST(MoeCheck, NamesConditionAndPlaceAndIsNoUserError) {
  try {
    MOE_CHECK(1 + 1 == 3);
    FAIL();
  } catch (const Error&) {
    FAIL() << "a mistake of the program is not the user's";
  } catch (const std::logic_error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("1 + 1 == 3"));
    EXPECT_THAT(error.what(), testing::HasSubstr("error_test.cpp"));
  }
  MOE_CHECK(true);
}

}  // namespace
}  // namespace moe
