#pragma once
/// The ranks of a plan, which computes nothing: they count what this rank would send and receive.

#include <utility>

#include "comm/traffic.h"
#include "ops/communicator.h"

namespace moe {

/// By kind of call.
struct CollectiveTraffic {
  Traffic sums;     ///< all_reduce(), reduce()
  Traffic copies;   ///< broadcast()
  Traffic parts;    ///< all_gather(), reduce_scatter()
  Traffic parcels;  ///< exchange()
  Traffic words;    ///< gather()

  Traffic all() const {
    Traffic sum = sums;
    for (const Traffic& more : {copies, parts, parcels, words}) sum += more;
    return sum;
  }
};

/// No view is read or written. For one thread at a time.
class PlannedRanks final : public Communicator {
 public:
  PlannedRanks(int rank, int ranks) : rank_(rank), ranks_(ranks) {}

  int rank() const override { return rank_; }
  int size() const override { return ranks_; }
  using Communicator::all_reduce;
  using Communicator::broadcast;
  void all_reduce(const View& x, const RankGroup& group) override {
    moved_.sums += all_reduce_traffic(x.dtype, x.elements(), group.member(rank_), group.count);
  }
  void reduce(const View& x, int root, const RankGroup& group) override {
    moved_.sums += reduce_traffic(x.dtype, x.elements(), group.member(root), group.member(rank_), group.count);
  }
  void broadcast(const View& x, int root, const RankGroup& group) override {
    moved_.copies += broadcast_traffic(bytes_of(x), group.member(root), group.member(rank_), group.count);
  }
  void all_gather(const View& x, const View&, const RankGroup& group) override {
    moved_.parts += each_to_all_traffic(bytes_of(x), group.count);
  }
  void reduce_scatter(const View&, const View& y, const RankGroup& group) override {
    moved_.parts += each_to_all_traffic(bytes_of(y), group.count);
  }
  void exchange(const std::vector<Parcel>& sent, const std::vector<Parcel>& received) override {
    for (const Parcel& parcel : sent) moved_.parcels.sent += bytes_of(parcel.x) + kHeaderBytes;
    for (const Parcel& parcel : received) moved_.parcels.received += bytes_of(parcel.x) + kHeaderBytes;
  }
  std::vector<std::string> gather(const std::string& bytes) override {
    moved_.words += gather_traffic(static_cast<int64_t>(bytes.size()), ranks_);
    return std::vector<std::string>(static_cast<size_t>(ranks_), bytes);
  }
  void abort(const std::string&) noexcept override {}

  /// What was moved since the last call.
  CollectiveTraffic take_moved() { return std::exchange(moved_, {}); }

 private:
  static int64_t bytes_of(const View& view) { return static_cast<int64_t>(view.bytes()); }

  const int rank_, ranks_;
  CollectiveTraffic moved_;
};

}  // namespace moe
