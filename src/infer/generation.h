#pragma once
/// What generation takes and gives: prompts, options, continuations.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "infer/sampler.h"

namespace moe {

enum class StopReason {
  end_of_sequence,  ///< the model chose EOS or another id that ends the text
  stop_string,      ///< the text reached a stop string
  max_new_tokens,
  max_positions,  ///< prompt and continuation have max_position_embeddings tokens
};

/// The progress of generate_batch(), summed over its prompts.
struct GenerationProgress {
  int64_t prompt_done = 0;  ///< tokens that went through the model
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  int64_t most_new_tokens = 0;
  double seconds = 0;  ///< seconds since the prompts were read
};

struct GenerationOptions {
  int64_t max_new_tokens = 256;
  /// Ids that end the text, besides the EOS of the tokenizer and of the model's configuration.
  std::vector<int32_t> end_ids = {};
  /// The text ends before the first complete one of these. They must be valid UTF-8, like the text, and not empty.
  std::vector<std::string> stop = {};
  SamplingOptions sampling = {};
  /// Called after each pass of the model; may be empty.
  std::function<void(const GenerationProgress&)> progress = {};
};

/// Throws a UsageError that names the option (as on the command line) which is out of range.
void validate(const GenerationOptions& options);

struct Prompt {
  std::vector<int32_t> ids;
  /// Selects the draws, together with the seed and the position. Give equal prompts different numbers.
  uint64_t sequence = 0;
};

struct Continuation {
  /// The generated ids, with an EOS at the end and the tokens of a stop string.
  std::vector<int32_t> ids;
  /// Valid UTF-8, with U+FFFD for bytes of the model that are not a character. It does not include special tokens, EOS,
  /// the stop string and, at the very end, the start of an unfinished character.
  std::string text;
  StopReason reason = StopReason::max_new_tokens;
};

}  // namespace moe
