#pragma once
/// The backends under test.

#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "tests/conformance/bounds.h"

namespace moe::conformance {

/// One arithmetic: a device, and variants of a backend that must give the same bits (numbers of threads).
struct Target {
  struct Variant {
    std::string name;
    std::unique_ptr<ThreadPool> pool;
    std::unique_ptr<Backend> backend;
  };
  std::string name;
  std::unique_ptr<Device> device;
  std::vector<Variant> variants;
  Arithmetic arithmetic = Arithmetic::plain;
  /// True if a row's bits do not depend on the number of rows, so that training and decoding give the same bits.
  /// Required of the CPU only.
  bool batch_invariant = true;

  Backend& backend() const { return *variants.front().backend; }
};

/// The oracle on the given types, and the CPU with every instruction set of this machine. Made once.
const std::vector<Target>& targets();

}  // namespace moe::conformance
