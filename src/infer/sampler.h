#pragma once
/// Choosing the next token from a row of logits.

#include <cstdint>
#include <span>
#include <vector>

#include "ops/token_chooser.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// The largest values of SamplingOptions; a penalty may be as small as 1 / kMostPenalty.
constexpr double kMostTemperature = 1e6, kMostPenalty = 1000, kMostAddedPenalty = 100;

/// Throws a UsageError that names the option (as on the command line) which is out of range.
void validate(const SamplingOptions& options);

/// allowed[id] for the rows [0, vocab_size) of the logits: true if the tokenizer has a token, special tokens included.
/// Rows that only pad the vocabulary, and ids without a token, are never chosen.
std::vector<bool> ids_with_token(const Tokenizer& tokenizer, int64_t vocab_size);

/// Chooses tokens. A choice is a pure function of the arguments, the options and the mask; it depends neither on other
/// sequences of a batch nor on earlier calls. The object reuses memory, so use it on one thread at a time.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, const std::vector<bool>& allowed);

  /// Samples with other options from now on.
  void use(const SamplingOptions& options);

  /// `logits` [V] has one entry per entry of the mask. `history` has the ids before this one. (sequence, position)
  /// selects the draw. It is an error if an allowed logit is NaN or +infinity, and if no token may be chosen.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history, uint64_t sequence, uint64_t position);

 private:
  SamplingOptions options_;
  std::vector<int32_t> allowed_;
  TokenChooser chooser_;
  std::vector<float> scores_;
  std::vector<int32_t> sorted_history_;
};

}  // namespace moe
