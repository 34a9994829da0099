#pragma once
/// Ranks that are threads of one process. They read and write each other's memory between two meetings.

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>

#include "ops/communicator.h"

namespace moe {

/// The ranks of one process. It must outlive what rank() returns. Each rank's communicator is for one thread.
class ThreadRanks {
 public:
  explicit ThreadRanks(int size);
  ~ThreadRanks();
  ThreadRanks(const ThreadRanks&) = delete;
  ThreadRanks& operator=(const ThreadRanks&) = delete;

  Communicator& rank(int rank) { return *communicators_[static_cast<size_t>(rank)]; }

 private:
  class One;

  struct Meeting {
    int waiting = 0;
    uint64_t number = 0;
  };

  /// Waits until every rank of the group has come here. Throws RankLost if one never will.
  void meet(const RankGroup& group);
  /// What a rank sends is copied, so that it does not wait for its peer.
  void send(int from, const Parcel& parcel);
  void receive(const Parcel& parcel, int to);
  void lose(int rank, int64_t step, const std::string& why);

  const int size_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::tuple<int, int, int>, Meeting> meetings_;                    // by group
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> on_the_way_;  // from one rank to another
  std::optional<RankLost> lost_;
  // What each rank brought to the meeting.
  std::vector<View> views_;
  std::vector<std::string> bytes_;
};

}  // namespace moe
