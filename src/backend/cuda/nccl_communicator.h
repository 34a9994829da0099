#pragma once
/// Ranks with a GPU each: NCCL carries what is in the memory of GPUs, and another communicator what is on the hosts.

#include <map>

#include "backend/cuda/cuda_device.h"
#include "backend/cuda/nccl_library.h"
#include "backend/cuda/peer_copies.h"
#include "backend/cuda/stream_clock.h"
#include "ops/communicator.h"

namespace moe::cuda {

/// Views are on this rank's GPU. Collectives of views are queued on the device's stream, those aside on a stream of
/// their own, and the host does not wait for them. NCCL adds in an order of its own: the same one for the same ranks on
/// the same machines, and every rank gets the bits of one sum. A sum of bf16 is rounded after each addition. A rank
/// that is lost leaves the others waiting on their GPUs; the host's communicator notices it. Use it on one thread at a
/// time.
class NcclCommunicator final : public Communicator {
 public:
  /// Meets the other ranks through `hosts`, which has the same ranks and must outlive this, as must `device`. An Error
  /// says why NCCL cannot start, for instance because two ranks have the same GPU.
  NcclCommunicator(Communicator& hosts, CudaDevice& device);
  ~NcclCommunicator() override;
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return hosts_.rank(); }
  int size() const override { return hosts_.size(); }
  using Communicator::all_reduce;
  using Communicator::broadcast;
  void all_reduce(const View& x, const RankGroup& group) override;
  void reduce(const View& x, int root, const RankGroup& group) override;
  void broadcast(const View& x, int root, const RankGroup& group) override;
  void all_gather(const View& x, const View& y, const RankGroup& group) override;
  void reduce_scatter(const View& x, const View& y, const RankGroup& group) override;
  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override;
  void prepare(const std::vector<RankGroup>& groups) override;
  /// If the GPUs can read each other's memory, PeerCopies carries aside what was shown; a warning says if they cannot.
  void show(const std::vector<View>& tensors) override;
  void reduce_aside(const std::vector<Rooted>& tensors) override;
  void broadcast_aside(const std::vector<Rooted>& tensors) override;
  void await() override;
  int64_t mark_aside() override;
  void await(int64_t mark) override;
  double take_exposed_seconds() override { return exposed_.take(); }
  std::vector<std::string> gather(const std::string& bytes) override;
  void abort(const std::string& why) noexcept override;
  void set_step(int64_t step) override { hosts_.set_step(step); }

 private:
  /// Groups of ranks for NCCL. What is aside has groups of its own, as those of a stream wait for each other.
  struct Key {
    RankGroup ranks;
    bool aside;
    bool operator<(const Key& other) const;
  };
  using Queue = NcclStatus (*)(const Rooted& tensor, NcclGroup group, int root, cudaStream_t stream);

  void check(NcclStatus status, const char* attempted) const;
  /// Makes the group when it is first used, which all ranks do together.
  NcclGroup group(const RankGroup& ranks, bool aside = false);
  /// Queues a collective on the device's stream, and takes its time.
  template <class Work>
  void timed(const Work& work);
  /// What is queued aside comes behind what the device's stream has.
  void begin_aside();
  void run_aside(const std::vector<Rooted>& tensors, Queue queue, const char* attempted);

  Communicator& hosts_;
  CudaDevice& device_;
  std::map<Key, NcclGroup> groups_;
  std::unique_ptr<PeerCopies> peers_;  // null: NCCL carries everything
  StreamClock exposed_;                // what the device's stream spends in collectives
  cudaStream_t aside_ = nullptr;
  cudaEvent_t begun_ = nullptr, done_ = nullptr;
  std::vector<cudaEvent_t> marks_;  // aside; kept for later ones
  size_t marks_used_ = 0;
  int errors_before_;  // exceptions in flight when it was made
};

}  // namespace moe::cuda
