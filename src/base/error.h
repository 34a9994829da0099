#pragma once
/// Errors. A mistake of the user or a failure of the machine throws Error. Its sentence names the thing, what was
/// found, what was expected and what to do. MOE_CHECK is for mistakes in this program.

#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace moe {

/// A failure that a user can cause or repair; exit status 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A command line or run file that cannot be understood; exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws std::logic_error with the place and the condition. sentence_of() (base/activity.h) adds what to do.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace moe

#define MOE_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::moe::check_failed(#condition, __FILE__, __LINE__))
