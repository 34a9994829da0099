#pragma once
/// Choosing the next token from a row of logits.

#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace moe {

/// The options apply in the order of the fields below. Each one works on the tokens that the previous ones left. These
/// are the largest values; a penalty may be as small as 1 / kMostPenalty.
constexpr double kMostTemperature = 1e6, kMostPenalty = 1000, kMostAddedPenalty = 100;

struct SamplingOptions {
  /// For ids that occur in the sequence so far, prompt included: a positive logit is divided by the penalty, any other
  /// is multiplied (each id once, however often it occurs). 1 changes nothing.
  double repetition_penalty = 1.0;
  /// Taken from the logit of every id that occurs in the sequence so far, prompt included. 0 changes nothing.
  double presence_penalty = 0.0;
  /// The same, as often as the id occurs.
  double frequency_penalty = 0.0;
  /// Logits are divided by it. 0 gives the most likely token (the lowest id among equals), and the options below do not
  /// apply.
  double temperature = 1.0;
  /// Keeps the k most likely tokens; among equally likely ones, the lowest ids. 0 keeps all.
  int64_t top_k = 0;
  /// Keeps the smallest number of most likely tokens whose probabilities reach this sum; at least one. 1 keeps all.
  double top_p = 1.0;
  /// Keeps tokens whose probability is at least this fraction of the largest. 0 keeps all.
  double min_p = 0.0;
  /// The seed of the draws.
  uint64_t seed = 0;
};

/// Throws a UsageError that names the option (as on the command line) which is out of range.
void validate(const SamplingOptions& options);

/// allowed[id] for the rows [0, vocab_size) of the logits: true if the tokenizer has a token, special tokens included.
/// Rows that only pad the vocabulary, and ids without a token, are never chosen.
std::vector<bool> ids_with_token(const Tokenizer& tokenizer, int64_t vocab_size);

/// Chooses tokens. A choice is a pure function of the arguments, the options and the mask; it depends neither on other
/// sequences of a batch nor on earlier calls. The object reuses memory, so use it on one thread at a time.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::vector<bool> allowed);

  /// Samples with other options from now on.
  void use(const SamplingOptions& options);

  /// `logits` [V] has one entry per entry of the mask. `history` has the ids before this one. (sequence, position)
  /// selects the draw. It is an error if an allowed logit is NaN or +infinity, and if no token may be chosen.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t sequence, uint64_t position);

 private:
  struct Candidate {
    int32_t id;
    double score;  // the logit; later the weight: exp of its distance from the best logit, divided by the temperature
    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && id > other.id);
    }
  };

  static bool by_id(const Candidate& a, const Candidate& b);
  void penalise(std::span<const int32_t> history);
  void collect(std::span<const float> logits, std::span<const int32_t> history);
  void keep_best(size_t count);
  void keep_mass();

  SamplingOptions options_;
  std::vector<bool> allowed_;
  std::vector<Candidate> candidates_;
  std::vector<float> scores_;
  std::vector<int32_t> sorted_history_;
};

}  // namespace moe
