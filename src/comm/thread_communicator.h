#pragma once
/// Ranks that are threads of one process. They read and write each other's memory between two meetings.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

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

  /// Waits until every rank has come here. Throws RankLost if one never will.
  void meet();
  void lose(int rank, int64_t step, const std::string& why);

  const int size_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  uint64_t meetings_ = 0;
  std::optional<RankLost> lost_;
  // What each rank brought to the meeting.
  std::vector<View> views_;
  std::vector<std::string> bytes_;
};

}  // namespace moe
