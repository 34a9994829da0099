#pragma once
/// How ranks that are processes find each other: all connect to rank 0, which tells each where the others are.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/socket.h"

namespace moe {

/// Where this process is among the ranks of a run.
struct RankPlace {
  int rank = 0, size = 1;
  std::string address = "127.0.0.1";  ///< of rank 0
  int port = 0;                       ///< of rank 0
  double limit_seconds = 60;          ///< in which all ranks must come
  /// Called several times a second until all have met. Throws RankLost if a rank can no longer come.
  std::function<void()> check = [] {};
};

/// The connections of a rank. Entry r is to rank r; its own is none.
struct Meeting {
  std::vector<Socket> data;
  /// For what comes at any time. Rank 0 has one to every rank; the others have one, to rank 0.
  std::vector<Socket> control;
  std::vector<std::string> hosts;  ///< names, of every rank
};

/// Waits until all ranks are there and connects each pair. Rank 0 listens at `listener`, whose port is place.port; the
/// others give null. An Error names the ranks that are missing at the limit of time. If a rank that has come ends
/// before all have met, rank 0 throws RankLost; the others throw an Error if rank 0 ends, and RankLost if it refuses
/// the meeting.
Meeting meet(const RankPlace& place, const Listener* listener);

/// The name of this machine.
std::string host_name();

}  // namespace moe
