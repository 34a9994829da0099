#pragma once
/// Tells a run of several ranks that stands still from one that is slow.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace moe {

/// What a rank says of its work.
struct RankProgress {
  uint64_t count = 0;        ///< progress_count()
  int waits_for = kNobody;   ///< the rank whose bytes it needs to go on
  double still_seconds = 0;  ///< since its count has changed
  bool waits_for_system = false;
  static constexpr int kNobody = -1;

  /// As a rank sends it.
  std::string text() const;
  static std::optional<RankProgress> parse(const std::string& text);
};

/// After how many seconds in which no rank has made progress the run stands still for good.
struct HangLimits {
  double seconds = 0;             ///< 0: never
  double first_step_seconds = 0;  ///< the same during the first step, which loads and allocates
  /// The limit is at least so many times the longest standstill so far after which the run went on.
  double times_longest = 0;
};

/// Collects what all ranks say and finds the one that holds the others up. For one thread.
class Standstill {
 public:
  Standstill(const HangLimits& limits, int own_rank) : limits_(limits), own_rank_(own_rank) {}

  /// `now` in seconds. Any change, and any rank that waits for the system, counts as progress of the run.
  void hear(int rank, const RankProgress& progress, double now);
  /// This rank has ended its work.
  void forget(int rank) { ranks_.erase(rank); }
  /// Nothing that was heard before counts: this process has not run for a while.
  void begin_again(double now);

  struct Hang {
    int rank;
    std::string why;
  };
  /// `step` is the one that is computed, 0 before the first: nothing is measured then.
  std::optional<Hang> find(int64_t step, double now);

 private:
  double limit(int64_t step) const;
  Hang blamed(double seconds) const;

  HangLimits limits_;
  int own_rank_;
  std::map<int, RankProgress> ranks_;
  std::optional<double> changed_at_;
  double longest_ = 0;
  int64_t first_step_ = 0;
};

}  // namespace moe
