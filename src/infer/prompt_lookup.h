#pragma once
/// Speculation without a second model: the next tokens are guessed from the text so far, and one pass judges all of
/// them.

#include <cstdint>
#include <span>
#include <vector>

namespace moe {

/// What followed the latest earlier occurrence of the last tokens: up to `most` ids. The longest of a few last tokens
/// that occurred before decides. Empty: nothing was found.
std::vector<int32_t> look_up_draft(std::span<const int32_t> ids, int64_t most);

/// Compares passes with drafts and passes without, by the time that a token takes, and stops drafts that do not pay.
/// The tokens are the same in either case. Use it on one thread at a time.
class DraftGain {
 public:
  /// False while it measures passes without drafts, and after drafts that did not pay.
  bool wants_draft() const { return plain_.passes >= kFirstPasses && pause_left_ == 0; }
  /// A pass that gave so many new tokens.
  void add(double seconds, int64_t tokens, bool drafted);

  /// How much longer the drafted tokens would have taken without drafts; negative: they have cost time.
  double saved_seconds() const { return saved_seconds_; }
  /// How often drafts were stopped because they did not pay.
  int64_t stops() const { return stops_; }

 private:
  static constexpr int64_t kFirstPasses = 8, kWindow = 8, kMostPause = 4096;

  struct Sum {
    double seconds = 0, tokens = 0;
    int64_t passes = 0;
  };
  Sum plain_, drafted_;
  double saved_seconds_ = 0;
  int64_t pause_ = 64, pause_left_ = 0, stops_ = 0;
};

}  // namespace moe
