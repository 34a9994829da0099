#pragma once
/// SIGINT, SIGTERM and SIGHUP as a request to stop after the current step.

namespace moe {

/// While it lives, the first SIGINT or SIGTERM is remembered; a second one ends the process at once. SIGHUP is
/// remembered too, unless it was ignored before (nohup), and never ends the process at once. SIGPIPE is ignored, so
/// that writing to a reader that has gone is an error like any other. Of nested guards the outermost counts: what a run
/// inside a longer task received, the task sees.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// The signal received, or 0.
  static int signal();
};

}  // namespace moe
