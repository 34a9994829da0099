#include "base/last_words.h"

#include <new>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace moe {
namespace {

/// As a library's destructor that needs memory: nothing can catch what it throws.
template <class Thrown>
void throw_where_nothing_can_catch(const Thrown& thrown) {
  const auto raise = [&] { throw thrown; };
  const auto closed = [&]() noexcept { raise(); };
  end_with_a_sentence();
  closed();
}

TEST(LastWords, SayThatThereIsNoMoreMemory) {
  EXPECT_EXIT(throw_where_nothing_can_catch(std::bad_alloc()), testing::ExitedWithCode(1),
              "^error: the system has no more memory for this program; use smaller sizes or free memory\n$");
}

TEST(LastWords, HaveTheTextOfOtherExceptions) {
  EXPECT_EXIT(throw_where_nothing_can_catch(std::runtime_error("odd")), testing::ExitedWithCode(1),
              "^error: an unexpected error: odd; this is a mistake in moe");
}

}  // namespace
}  // namespace moe
