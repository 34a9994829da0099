#pragma once
/// Sums over ranks, and copies between them, by the copy engines of GPUs that can read each other's memory. Products
/// keep their multiprocessors, which NCCL's kernels would take from them.

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "backend/cuda/peer_memory.h"
#include "ops/rank_room.h"

namespace moe::cuda {

constexpr int kMostPeers = 16;  ///< the most ranks

/// Works on f32 tensors that its ranks have shown to each other. A rank reads the others' parts of a sum when all ranks
/// have theirs, and adds them in the order of the ranks. The ranks' GPUs wait for each other by flags in their memory;
/// the hosts do not wait. All ranks call the same functions in the same order. Use it on the thread of its device.
class PeerCopies {
 public:
  /// All ranks do this together, with as many tensors in the same order (PeerMemory). Nothing else may be called if
  /// why_not() says something. `room`: bytes for parts of other ranks, all together; larger sums take several rounds.
  PeerCopies(Communicator& hosts, CudaDevice& device, std::vector<View> tensors, size_t room = kRankRoomBytes);
  /// Ends what still waits for other ranks, which may be lost.
  ~PeerCopies();
  PeerCopies(const PeerCopies&) = delete;
  PeerCopies& operator=(const PeerCopies&) = delete;

  /// Why a rank cannot read another one's memory, the same on all ranks; "" if all can.
  const std::string& why_not() const { return memory_->why_not(); }
  /// True if all of them are among the shown ones.
  bool have(const std::vector<Rooted>& tensors) const;
  /// Queues on `stream`: the x of each root becomes the sum over its group. Those of other ranks keep their values.
  void reduce(const std::vector<Rooted>& tensors, cudaStream_t stream);
  /// Queues on `stream`: each x becomes that of its root.
  void broadcast(const std::vector<Rooted>& tensors, cudaStream_t stream);
  /// Queues on `stream` a wait until no rank reads this rank's tensors any more.
  void finish(cudaStream_t stream);

 private:
  enum class Flag { ready, taken };

  /// Where a flag of `from` is in the memory of `rank`.
  int32_t* flag(int rank, Flag which, int from) const;
  /// The other ranks of the tensors' groups, from the next one on, so that not all of them read from the same one.
  std::vector<int> others(const std::vector<Rooted>& tensors) const;
  /// Begins a piece of work of these ranks: waits until what each of them queued before it is done.
  std::vector<int> begin(const std::vector<Rooted>& tensors, cudaStream_t stream);
  void tell(const std::vector<int>& ranks, Flag which, cudaStream_t stream) const;
  void wait_for(int rank, Flag which, int32_t piece, cudaStream_t stream) const;
  void add(const Rooted& tensor, size_t index, cudaStream_t stream) const;

  Communicator& hosts_;
  CudaDevice& device_;
  std::map<const void*, size_t> index_;  // of shown tensors, by their data
  void* flags_ = nullptr;
  char* parts_ = nullptr;  // room for a part of a tensor from each other rank
  size_t part_bytes_ = 0;
  std::unique_ptr<PeerMemory> memory_;
  int32_t piece_ = 0;          // pieces so far; the same on all ranks
  std::vector<int32_t> last_;  // the last one that each rank shared with this one
};

}  // namespace moe::cuda
