#pragma once
/// SIGINT, SIGTERM and SIGHUP as requests to stop at the next good moment.

namespace moe {

/// While it exists, the first SIGINT or SIGTERM is remembered, and a second one ends the process at once
/// (end_by_signal). SIGHUP is remembered too, unless it was ignored before (nohup); it never ends the process at once.
/// SIGPIPE is ignored, so that writing to a reader that has gone is an ordinary error. With nested guards, the
/// outermost one counts: a signal during an inner run is also seen by the outer task. Use it on the main thread.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// The received signal, or 0.
  static int signal();
};

}  // namespace moe
