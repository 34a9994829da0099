#pragma once
/// The peak memory of a function, measured in a separate child process.

#include <cstdint>
#include <functional>
#include <sys/resource.h>
#include <sys/wait.h>

#include <gtest/gtest.h>
#include <unistd.h>

namespace moe::test {

/// False under sanitizers, which keep freed memory.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMemoryIsMeasurable = false;
#else
constexpr bool kMemoryIsMeasurable = true;
#endif

/// Runs `function` in a forked child and returns the peak memory of the child in bytes. This includes the memory of the
/// parent. A failed expectation or an exception in the child is a failure here.
inline int64_t peak_memory_of(const std::function<void()>& function) {
  const pid_t child = fork();
  if (child == 0) {
    int status = 1;
    try {
      function();
      status = testing::Test::HasFailure() ? 1 : 0;
    } catch (...) {}
    _exit(status);
  }
  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the child process failed";
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace moe::test
