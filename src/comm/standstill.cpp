#include "comm/standstill.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include <fmt/format.h>

namespace moe {

std::string RankProgress::text() const {
  return fmt::format("{} {} {} {}", count, waits_for, still_seconds, waits_for_system ? 1 : 0);
}

std::optional<RankProgress> RankProgress::parse(const std::string& text) {
  unsigned long long count = 0;
  int waits_for = 0, system = 0;
  double still = 0;
  if (std::sscanf(text.c_str(), "%llu %d %lf %d", &count, &waits_for, &still, &system) != 4) return std::nullopt;
  return RankProgress{.count = count, .waits_for = waits_for, .still_seconds = still, .waits_for_system = system != 0};
}

void Standstill::hear(int rank, const RankProgress& progress, double now) {
  const auto [place, is_new] = ranks_.try_emplace(rank, progress);
  if (is_new || place->second.count != progress.count || progress.waits_for_system) {
    if (changed_at_ && first_step_ > 0) longest_ = std::max(longest_, now - *changed_at_);
    changed_at_ = now;
  }
  place->second = progress;
}

void Standstill::begin_again(double now) { changed_at_ = now; }

double Standstill::limit(int64_t step) const {
  const double least = step == first_step_ ? limits_.first_step_seconds : limits_.seconds;
  return std::max(least, limits_.times_longest * longest_);
}

std::optional<Standstill::Hang> Standstill::find(int64_t step, double now) {
  if (limits_.seconds <= 0 || step == 0) return std::nullopt;
  if (first_step_ == 0) {
    first_step_ = step;
    changed_at_ = now;
  }
  const double seconds = now - *changed_at_;
  if (ranks_.size() < 2 || seconds <= limit(step)) return std::nullopt;
  return blamed(seconds);
}

/// The rank that waits for none, and of several the first that stopped: on a GPU the host does not know what its device
/// waits for.
Standstill::Hang Standstill::blamed(double seconds) const {
  const auto still = [](const auto& one) { return one.second.waits_for < 0 ? one.second.still_seconds : -1; };
  const auto first =
      std::max_element(ranks_.begin(), ranks_.end(), [&](const auto& a, const auto& b) { return still(a) < still(b); });
  const double whole = std::floor(seconds);
  if (first->second.waits_for < 0) {
    return {first->first, fmt::format("it is alive, but has done nothing for {} s, and the others wait", whole)};
  }
  // All wait, in a circle: follow it from here, and name the rank at its end.
  int rank = own_rank_;
  std::set<int> seen;
  while (ranks_.count(rank) != 0 && seen.insert(rank).second) {
    const int next = ranks_.at(rank).waits_for;
    if (seen.count(next) != 0) break;
    rank = next;
  }
  return {rank, fmt::format("all ranks wait for each other, and for {} s nothing has come through the network", whole)};
}

}  // namespace moe
