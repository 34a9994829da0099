#include "comm/watch.h"

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sys/socket.h>
#include <utility>

#include <poll.h>

#include "base/clock.h"
#include "base/progress_count.h"
#include "base/thread_start.h"

namespace moe {
namespace {

constexpr double kBeatSeconds = 1, kTickSeconds = 0.1;
/// A thread that was not run for so long (a suspended machine, Ctrl-Z) knows nothing about the others.
constexpr double kLateSeconds = 3;
/// When a rank ends, others that notice it end too. A rank that says why it ends is blamed first.
constexpr double kDoubtSeconds = 0.5;
/// For what others are told. Their watches read at once.
constexpr double kTellSeconds = 1;

/// A text that begins with a number and a blank.
std::pair<int64_t, std::string> number_and_rest(const std::string& text) {
  const size_t end = text.find(' ');
  return {std::atoll(text.c_str()), end == std::string::npos ? "" : text.substr(end + 1)};
}

}  // namespace

Watch::Watch(const Communicator& communicator, std::vector<Socket> control, std::vector<std::string> hosts,
             std::function<int()> waits_for, std::function<void()> on_lost, Options options)
    : communicator_(communicator),
      control_(std::move(control)),
      hosts_(std::move(hosts)),
      waits_for_(std::move(waits_for)),
      on_lost_(std::move(on_lost)),
      options_(std::move(options)),
      standstill_(options_.hang, communicator.rank()),
      own_changed_at_(steady_seconds()) {
  for (size_t rank = 0; rank < control_.size(); ++rank) {
    if (control_[rank]) peers_.push_back({.rank = static_cast<int>(rank), .heard = steady_seconds()});
  }
  thread_ = run_beside([this] { run(); });
}

Watch::~Watch() {
  bool failed = false;
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    failed = failed_ || lost_;
  }
  if (!failed) send_to_all(Kind::done, "", kTellSeconds);
  thread_.wait();
}

void Watch::say_failed(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_ || lost_) return;
    failed_ = true;
  }
  send_to_all(Kind::failed, fmt::format("{} {}", communicator_.step(), why.substr(0, 4096)), kTellSeconds);
}

std::optional<RankLost> Watch::lost_within(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return lost_.has_value(); });
  return lost_;
}

bool Watch::lost_said_why() {
  const std::lock_guard lock(mutex_);
  return said_;
}

void Watch::send(int rank, Kind kind, const std::string& text, double seconds) const {
  const std::lock_guard lock(send_mutex_);
  try {
    control_[static_cast<size_t>(rank)].send_message(static_cast<char>(kind) + text, seconds);
  } catch (const Disconnected&) {  // reading will notice
  }
}

void Watch::send_to_all(Kind kind, const std::string& text, double seconds) const {
  for (size_t rank = 0; rank < control_.size(); ++rank) {
    if (control_[rank]) send(static_cast<int>(rank), kind, text, seconds);
  }
}

void Watch::run() {
  double last = steady_seconds(), beat = 0;
  std::optional<double> lost_at;
  for (;;) {
    std::vector<pollfd> waited;
    for (const Peer& peer : peers_) {
      if (!peer.gone) waited.push_back({control_[static_cast<size_t>(peer.rank)].descriptor(), POLLIN, 0});
    }
    ::poll(waited.data(), waited.size(), static_cast<int>(1000 * kTickSeconds));
    const double now = steady_seconds();
    {
      const std::lock_guard lock(mutex_);
      if (ends_) return;
      if (lost_ && !lost_at) lost_at = now;
    }
    if (now - last > kLateSeconds) {
      for (Peer& peer : peers_) peer.heard = now;
      own_changed_at_ = now;
      standstill_.begin_again(now);
    }
    last = now;
    for (Peer& peer : peers_) {
      if (!peer.gone) read(peer);
      if (now - peer.heard > options_.silent_seconds && !peer.leaves && !peer.gone) {
        suspect(peer.rank, fmt::format("it has not answered for {} s", options_.silent_seconds), true);
      }
    }
    const RankProgress own = own_progress(now);
    standstill_.hear(communicator_.rank(), own, now);
    if (now - beat >= kBeatSeconds) {
      beat = now;
      send_to_all(Kind::alive, own.text(), 0);
    }
    if (communicator_.rank() == 0) look_for_hang(now);
    decide();
    // A rank that hangs would not end by itself.
    const double patience = lost_at && lost_->rank == communicator_.rank() ? 0 : options_.give_up_seconds;
    if (lost_at && options_.give_up && now - *lost_at > patience) options_.give_up(*lost_);
  }
}

RankProgress Watch::own_progress(double now) {
  const uint64_t count = progress_count();
  if (count != own_count_) own_changed_at_ = now;
  own_count_ = count;
  return {.count = count,
          .waits_for = waits_for_(),
          .still_seconds = now - own_changed_at_,
          .waits_for_system = SystemWait::any()};
}

void Watch::look_for_hang(double now) {
  if (const auto hang = standstill_.find(communicator_.step(), now)) suspect(hang->rank, hang->why, true);
}

void Watch::read(Peer& peer) {
  char bytes[4096];
  for (;;) {
    const ssize_t count =
        ::recv(control_[static_cast<size_t>(peer.rank)].descriptor(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {
      peer.gone = true;
      break;
    }
    peer.unread.append(bytes, static_cast<size_t>(count));
    peer.heard = steady_seconds();
  }
  for (;;) {  // as Socket::send_message() writes them
    uint32_t size = 0;
    if (peer.unread.size() < sizeof size) break;
    peer.unread.copy(reinterpret_cast<char*>(&size), sizeof size);
    if (size == 0 || peer.unread.size() < sizeof size + size) break;
    const std::string text = peer.unread.substr(sizeof size, size);
    peer.unread.erase(0, sizeof size + size);
    take(peer, static_cast<Kind>(text[0]), text.substr(1));
  }
  if (peer.gone && !peer.leaves) suspect(peer.rank, "it was killed, or its connection broke", false);
}

void Watch::take(Peer& peer, Kind kind, const std::string& text) {
  switch (kind) {
    case Kind::alive:
      if (const auto progress = RankProgress::parse(text)) standstill_.hear(peer.rank, *progress, steady_seconds());
      return;
    case Kind::done:
      peer.leaves = true;
      standstill_.forget(peer.rank);
      return;
    case Kind::failed: {
      peer.leaves = true;
      const auto [step, why] = number_and_rest(text);
      return suspect(peer.rank, why, true, true, step);
    }
    case Kind::lost:
      peer.leaves = true;
      const auto [rank, rest] = number_and_rest(text);
      const auto [step, why] = number_and_rest(rest);
      // Of itself only rank 0 can have said it.
      return suspect(static_cast<int>(rank), why, true, rank == 0, step);
  }
}

void Watch::suspect(int rank, const std::string& why, bool certain, bool said, std::optional<int64_t> step) {
  if (suspicion_ && (suspicion_->certain || !certain)) return;
  suspicion_ = {rank, why, steady_seconds(), certain, said, step.value_or(communicator_.step())};
}

void Watch::decide() {
  if (!suspicion_) return;
  const double doubt = communicator_.rank() == 0 ? kDoubtSeconds : 2 * kDoubtSeconds;
  if (!suspicion_->certain && steady_seconds() - suspicion_->since < doubt) return;
  {
    const std::lock_guard lock(mutex_);
    if (lost_ || failed_) return;
    lost_.emplace(suspicion_->rank, hosts_[static_cast<size_t>(suspicion_->rank)], suspicion_->step, suspicion_->why);
    said_ = suspicion_->said;
  }
  if (communicator_.rank() == 0) {
    for (const Peer& peer : peers_) {
      if (!peer.gone) {
        send(peer.rank, Kind::lost, fmt::format("{} {} {}", suspicion_->rank, suspicion_->step, suspicion_->why),
             kTellSeconds);
      }
    }
  }
  on_lost_();
  changed_.notify_all();
}

}  // namespace moe
