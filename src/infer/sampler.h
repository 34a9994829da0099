#pragma once
/// Choosing the next token from a row of logits.

#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace moe {

/// Applied in the order of the fields below; each works on what the ones before it left.
/// The largest values that SamplingOptions take; a penalty may be as small as 1 / kMostPenalty.
constexpr double kMostTemperature = 1e6, kMostPenalty = 1000;

struct SamplingOptions {
  /// Ids that occur in the sequence so far, prompt included: a positive logit is divided by it, another multiplied
  /// (each id once, however often it occurs). 1 changes nothing.
  double repetition_penalty = 1.0;
  /// Logits are divided by it. 0: the most likely token, the lowest id where several are, and nothing below applies.
  double temperature = 1.0;
  /// Keeps the k most likely tokens; of equally likely ones the lowest ids. 0 keeps all.
  int64_t top_k = 0;
  /// Keeps the fewest of the most likely tokens whose probabilities reach this sum, at least one. 1 keeps all.
  double top_p = 1.0;
  /// Keeps tokens at least this fraction as likely as the most likely one. 0 keeps all.
  double min_p = 0.0;
  /// Of the draws.
  uint64_t seed = 0;
};

/// Throws UsageError naming the option (as the command line spells it) that is out of its range.
void validate(const SamplingOptions& options);

/// allowed[id] for the rows [0, vocab_size) of the logits: true where the tokenizer has a token, special ones included.
/// Rows that only pad the vocabulary, and ids between tokens, stand for nothing and are never chosen.
std::vector<bool> ids_with_token(const Tokenizer& tokenizer, int64_t vocab_size);

/// Stateless between calls except for memory that it reuses: a choice is a pure function of the arguments, the options
/// and the mask, so that it depends neither on other sequences of a batch nor on earlier calls.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::vector<bool> allowed);

  /// `logits` [V], one per entry of the mask; `history`: the ids before this one; (sequence, position) selects the
  /// draw. A NaN or +infinity among the allowed logits is an error, and so is a row where nothing may be chosen.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t sequence, uint64_t position);

 private:
  struct Candidate {
    int32_t id;
    double score;  // the logit, then the weight: exp of its distance from the best logit, over the temperature
    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && id > other.id);
    }
  };

  static bool by_id(const Candidate& a, const Candidate& b);
  void collect(std::span<const float> logits, std::span<const int32_t> history);
  void keep_best(size_t count);
  void keep_mass();

  SamplingOptions options_;
  std::vector<bool> allowed_;
  std::vector<Candidate> candidates_;
  std::vector<float> scores_;
};

}  // namespace moe
