#pragma once
/// The memory of other ranks' GPUs, mapped by this rank. The copy engines of a GPU read it without a kernel.

#include <string>
#include <vector>

#include "backend/cuda/cuda_device.h"
#include "ops/communicator.h"

namespace moe::cuda {

/// The tensors that the ranks of one machine show to each other. Use it on the thread of its device.
class PeerMemory {
 public:
  /// Every rank calls it with as many tensors, in the same order; those of one place have equal size. They must be in
  /// memory that `device` allocated, and stay there as long as anybody reads them. The hosts meet twice.
  PeerMemory(Communicator& hosts, const CudaDevice& device, const std::vector<View>& tensors);
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  /// Why a rank cannot read another one's memory, the same on all ranks; "" if all can.
  const std::string& why_not() const { return why_not_; }
  /// Where `rank` has the tensor number `index`, as an address of this process. Its own too.
  void* at(int rank, size_t index) const { return addresses_[static_cast<size_t>(rank)][index]; }

 private:
  /// Maps the memory that another rank has described.
  void open(int rank, const std::string& description);

  std::vector<std::vector<void*>> addresses_;  // by rank and tensor
  std::vector<void*> opened_;
  std::string why_not_;
};

}  // namespace moe::cuda
