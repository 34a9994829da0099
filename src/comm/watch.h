#pragma once
/// Notices that a rank has ended, no longer answers or hangs, while the others compute or wait.

#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "comm/socket.h"
#include "comm/standstill.h"
#include "ops/communicator.h"

namespace moe {

/// Every rank says each second that it is alive and how far it is: the others to rank 0, and rank 0 to all. Rank 0
/// decides who was lost first and tells the others. Any thread may call it.
class Watch {
 public:
  struct Options {
    /// A rank that says nothing for so long is lost.
    double silent_seconds = 10;
    /// From the loss of a rank to give_up, if the program still works then.
    double give_up_seconds = 5;
    /// When a rank hangs. Those of rank 0 count.
    HangLimits hang = {};
    /// Ends the process. None: nothing happens.
    std::function<void(const RankLost&)> give_up = {};
  };

  /// Both functions are called on the watch's thread: `waits_for`, of RankProgress, often; `on_lost` once.
  Watch(const Communicator& communicator, std::vector<Socket> control, std::vector<std::string> hosts,
        std::function<int()> waits_for, std::function<void()> on_lost, Options options);
  /// Tells the others that this rank's work is done, unless it has failed.
  ~Watch();

  /// Tells the others that this rank ends, and why.
  void say_failed(const std::string& why);
  /// The rank that was lost; none if nothing is known of it within `seconds`.
  std::optional<RankLost> lost_within(double seconds);
  /// True if the rank that was lost has itself said why.
  bool lost_said_why();

 private:
  /// What another rank has said.
  struct Peer {
    int rank;
    std::string unread = {};
    double heard = 0;
    bool leaves = false;  ///< it has said that it ends
    bool gone = false;
  };
  /// alive: RankProgress as text. failed: "STEP why", lost: "RANK STEP why", the latter of rank 0.
  enum class Kind : char { alive = 'a', done = 'd', failed = 'f', lost = 'l' };

  void run();
  void look_for_hang(double now);
  RankProgress own_progress(double now);
  void read(Peer& peer);
  void take(Peer& peer, Kind kind, const std::string& text);
  /// `step`: where the rank was, if it is known; else this rank's is taken.
  void suspect(int rank, const std::string& why, bool certain, bool said = false, std::optional<int64_t> step = {});
  void decide();
  void send(int rank, Kind kind, const std::string& text, double seconds) const;
  void send_to_all(Kind kind, const std::string& text, double seconds) const;

  const Communicator& communicator_;
  const std::vector<Socket> control_;
  const std::vector<std::string> hosts_;
  const std::function<int()> waits_for_;
  const std::function<void()> on_lost_;
  const Options options_;
  mutable std::mutex send_mutex_;  // a message must be whole
  std::vector<Peer> peers_;        // of the thread, and so are the next ones
  Standstill standstill_;
  uint64_t own_count_ = 0;
  double own_changed_at_ = 0;
  /// Who seems to be lost, since when, and whether this is sure.
  struct Suspicion {
    int rank;
    std::string why;
    double since;
    bool certain, said;
    int64_t step;
  };
  std::optional<Suspicion> suspicion_;  // of the thread
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<RankLost> lost_;
  bool ends_ = false, failed_ = false, said_ = false;
  std::future<void> thread_;
};

}  // namespace moe
