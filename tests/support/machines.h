#pragma once
/// Where tests of whole programs run: the CPU, and the GPU if there is one.

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/error.h"

namespace moe {

struct Machine {
  explicit Machine(const std::string& kind, int threads = 2)
      : pool(threads),
        device(kind == "cuda" ? make_cuda_device() : make_cpu_device()),
        backend(kind == "cuda" ? make_cuda_backend(*device) : make_cpu_backend(pool)) {}

  ThreadPool pool;
  std::unique_ptr<Device> device;
  std::unique_ptr<Backend> backend;
};

/// Parameters of tests that run on every kind of machine.
inline const std::vector<std::string>& machine_kinds() {
  static const std::vector<std::string> kinds{"cpu", "cuda"};
  return kinds;
}

/// Why tests on this kind of machine must be skipped here; nothing if they can run.
inline std::string why_skipped(const std::string& kind) { return kind == "cuda" ? why_no_cuda() : std::string(); }

}  // namespace moe

/// In a test's body or SetUp: skips the test if the machine is missing.
#define MOE_SKIP_WITHOUT(kind) \
  if (const std::string why = ::moe::why_skipped(kind); !why.empty()) GTEST_SKIP() << why
