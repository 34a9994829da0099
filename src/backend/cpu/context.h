#pragma once
/// What an operation needs to execute on the CPU.

#include <cstddef>
#include <vector>

#include "backend/cpu/kernels/kernels.h"
#include "base/thread_pool.h"

namespace moe::cpu {

/// Scratch of fixed size for each worker, allocated once. It is address space until an operation touches it.
class Scratch {
 public:
  explicit Scratch(int workers);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// At least kBytes bytes, aligned to 64, for `worker` alone; holds nothing between operations.
  void* of(int worker) const { return blocks_[static_cast<size_t>(worker)]; }
  static constexpr size_t kBytes = kScratchFloats * sizeof(float);

 private:
  std::vector<void*> blocks_;
};

/// Bytes of scratch that all contexts of this process hold.
int64_t scratch_bytes();

struct Context {
  ThreadPool& pool;
  const Kernels& kernels;
  Scratch scratch;
};

/// Specialised for every operation of OpList and every fusion, in the file of its family; a missing one does not link.
template <class Op>
void execute(Context& context, const Op& op);

}  // namespace moe::cpu
