#pragma once
/// SIGINT and SIGTERM as a request to stop after the current step.

namespace moe {

/// While it lives, the first SIGINT or SIGTERM is remembered; a second one ends the process at once. Of nested ones the
/// outermost counts: what a run inside a longer task received, the task sees.
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
