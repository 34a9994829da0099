#pragma once
/// Ranks that are processes, on one machine or several, which talk over TCP.

#include <memory>
#include <optional>

#include "comm/mesh.h"
#include "comm/ordered_sum.h"
#include "comm/rendezvous.h"
#include "comm/watch.h"
#include "ops/communicator.h"

namespace moe {

/// Views are in the memory of the host. It takes part in the meeting of the ranks in its constructor. For one thread at
/// a time.
class SocketCommunicator final : public Communicator {
 public:
  /// `listener` as for meet().
  SocketCommunicator(const RankPlace& place, const Listener* listener, Watch::Options options = {});

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  using Communicator::all_reduce;
  using Communicator::broadcast;
  void all_reduce(const View& x, const RankGroup& group) override;
  void reduce(const View& x, int root, const RankGroup& group) override;
  void broadcast(const View& x, int root, const RankGroup& group) override;
  void all_gather(const View& x, const View& y, const RankGroup& group) override;
  void reduce_scatter(const View& x, const View& y, const RankGroup& group) override;
  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override;
  std::vector<std::string> gather(const std::string& bytes) override;
  void abort(const std::string& why) noexcept override;

  /// The bytes that collectives have moved so far.
  const Traffic& traffic() const { return mesh_.traffic(); }

  /// True if a rank was lost and has itself said why.
  bool lost_said_why() { return watch_.lost_said_why(); }

 private:
  SocketCommunicator(const RankPlace& place, Meeting meeting, Watch::Options options);
  void move(const std::vector<Mesh::Part>& sent, const std::vector<Mesh::Part>& received);
  void reduce_to(const View& x, std::optional<int> root, const RankGroup& group);
  void sum_parts(const View& x, const std::vector<Slice>& slices, char* sum, const RankGroup& group);

  int rank_, size_;
  std::vector<std::string> hosts_;
  Mesh mesh_;
  Watch watch_;
};

}  // namespace moe
