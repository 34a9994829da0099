#pragma once
/// What an operation needs to execute on the CPU.

#include <cstddef>
#include <vector>

#include "backend/cpu/kernels/kernels.h"
#include "base/thread_pool.h"

namespace moe::cpu {

/// Scratch of a fixed size for each worker, allocated once. It uses only address space until an operation writes to it.
/// Each worker thread uses its own part.
class Scratch {
 public:
  explicit Scratch(int workers);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// At least kBytes bytes, aligned to 64, for `worker` only. Its content is not kept between operations.
  void* of(int worker) const { return blocks_[static_cast<size_t>(worker)]; }
  static constexpr size_t kBytes = kScratchFloats * sizeof(float);
  /// As much again, for weights as f32 that a kernel reads while it uses the other.
  void* widened(int worker) const { return static_cast<char*>(of(worker)) + kBytes; }

 private:
  static constexpr size_t kBlock = 2 * kBytes;
  std::vector<void*> blocks_;
};

/// The bytes of scratch that all contexts of this process hold.
int64_t scratch_bytes();

struct Context {
  ThreadPool& pool;
  const Kernels& kernels;
  Scratch scratch;
};

/// Specialised for every operation of OpList and every fusion, in the file of its family. If one is missing, the
/// program does not link.
template <class Op>
void execute(Context& context, const Op& op);

}  // namespace moe::cpu
