#pragma once
/// Messages between every two of several processes. The messages from one to another are numbered, so that ranks that
/// are not at the same call notice it.

#include <atomic>
#include <vector>

#include "comm/socket.h"
#include "comm/traffic.h"

namespace moe {

/// The connection to this rank is broken.
struct LostPeer {
  int rank;
};

/// For one thread at a time; any thread may call shut().
class Mesh {
 public:
  /// `sockets` has one for each other rank.
  explicit Mesh(std::vector<Socket> sockets)
      : sockets_(std::move(sockets)), sent_(sockets_.size()), received_(sockets_.size()) {}

  /// Memory that is sent to a rank, or filled by it.
  struct Part {
    int rank;
    char* data;
    size_t bytes;
  };
  /// Sends and receives all parts at the same time: at most one to and one from each rank. Waits as long as the others
  /// need. Throws LostPeer.
  void exchange(const std::vector<Part>& sent, const std::vector<Part>& received);

  /// Every exchange, also one that waits, throws LostPeer from now on.
  void shut() const;

  /// While an exchange waits: a rank that has not given or taken everything; else -1. Any thread may ask.
  int waits_for() const { return waits_for_; }

  /// All bytes that were moved since the beginning.
  const Traffic& traffic() const { return traffic_; }

 private:
  std::vector<Socket> sockets_;
  std::vector<uint64_t> sent_, received_;  // messages so far, to and from each rank
  Traffic traffic_;
  std::atomic<int> waits_for_{-1};
};

}  // namespace moe
