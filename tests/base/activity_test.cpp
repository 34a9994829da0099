#include "base/activity.h"

#include <filesystem>
#include <new>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace moe {
namespace {

using testing::HasSubstr;

// One test, because the first activity that an exception ends is remembered for the program's last sentence.
TEST(Activity, TheInnermostOneThatMemoryEndedIsNamed) {
  { const Activity finished("counting"); }
  EXPECT_EQ(Activity::ended_by_exception(), "");
  try {
    const Activity outer("evaluating");
    try {
      fail("handled");
    } catch (const Error&) {}
    const Activity inner("reading a.txt");
    throw std::bad_alloc();
  } catch (const std::bad_alloc& error) {
    EXPECT_THAT(sentence_of(error), HasSubstr("no more memory for this program while reading a.txt"));
  }
}

TEST(Activity, AMistakeOfTheProgramIsSaidOnceWithItsPlace) {
  std::string said;
  try {
    MOE_CHECK(1 + 1 == 3);
  } catch (const std::exception& error) {
    said = sentence_of(error);
  }
  EXPECT_THAT(said, HasSubstr("activity_test.cpp"));
  EXPECT_THAT(said, HasSubstr("please report it with the command line"));
  EXPECT_EQ(said.find("this is a mistake in moe"), said.rfind("this is a mistake in moe")) << said;
}

TEST(Activity, EveryExceptionHasASentenceWithoutALibrarysWords) {
  EXPECT_EQ(sentence_of(Error("a sentence")), "a sentence");
  std::string said;
  try {
    std::filesystem::directory_iterator("/does/not/exist");
  } catch (const std::exception& error) {
    said = sentence_of(error);
  }
  EXPECT_THAT(said, HasSubstr("/does/not/exist: No such file or directory"));
  EXPECT_THAT(said, testing::Not(HasSubstr("filesystem error")));
  try {
    std::vector<char>().reserve(SIZE_MAX);
  } catch (const std::exception& error) {
    said = sentence_of(error);
  }
  EXPECT_THAT(said, HasSubstr("no more memory"));
  EXPECT_THAT(sentence_of(std::system_error(EAGAIN, std::generic_category())),
              HasSubstr("Resource temporarily unavailable"));
}

}  // namespace
}  // namespace moe
