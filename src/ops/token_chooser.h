#pragma once
/// Chooses a token from a row of logits on the host.

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sampling.h"

namespace moe {

/// What a choice gave.
struct TokenChoice {
  int32_t id = -1;       ///< -1: none, as `refused` says, or as every logit is -infinity or not allowed
  int64_t refused = -1;  ///< the first allowed id whose logit is NaN or +infinity
};

/// A choice is a pure function of the arguments. The object reuses memory, so use it on one thread at a time.
class TokenChooser {
 public:
  /// `logits` are those after the penalties, which this does not apply. Ids with allowed[id] = 0 do not take part;
  /// null: all do. `draw` is uniform in [0, 1).
  TokenChoice choose(std::span<const float> logits, const int32_t* allowed, const SamplingOptions& options,
                     double draw);

 private:
  struct Candidate {
    int32_t id;
    double score;  // the logit; later the weight: exp of its distance from the best logit, divided by the temperature
    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && id > other.id);
    }
  };

  static bool by_id(const Candidate& a, const Candidate& b);
  int64_t collect(std::span<const float> logits, const int32_t* allowed);
  void keep_best(size_t count);
  void keep_mass(double share);

  std::vector<Candidate> candidates_;
};

}  // namespace moe
