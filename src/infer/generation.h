#pragma once
/// What generation takes and gives: prompts, options, continuations.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "infer/sampler.h"
#include "model/config.h"

namespace moe {

enum class StopReason {
  end_of_sequence,  ///< the model chose EOS or another id that ends the text
  stop_string,      ///< the text reached a stop string
  max_new_tokens,
  max_positions,  ///< prompt and continuation have max_position_embeddings tokens, or as many as the context
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
  /// The most tokens of the prompt and its continuation together; 0: max_position_embeddings of the model.
  int64_t context = 0;
  /// Ids that end the text, besides the EOS of the tokenizer and of the model's configuration.
  std::vector<int32_t> end_ids = {};
  /// The text ends before the first complete one of these. They must be valid UTF-8, like the text, and not empty.
  std::vector<std::string> stop = {};
  SamplingOptions sampling = {};
  /// The most tokens that are guessed for one pass from what followed the same words before (prompt lookup), while one
  /// sequence runs by itself. The result is the same (on backends whose rows do not depend on other rows). 0: none.
  int64_t prompt_lookup = 0;
  /// The most tokens of prompts in one pass of the model, which limits the memory of activations.
  int64_t tokens_per_pass = 512;
  /// Called after each pass of the model; may be empty.
  std::function<void(const GenerationProgress&)> progress = {};
};

constexpr int64_t kMostPromptLookup = 16;

/// Throws a UsageError that names the option (as on the command line) which is out of range.
void validate(const GenerationOptions& options);

struct Prompt {
  std::vector<int32_t> ids;
  /// Selects the draws, together with the seed and the position. Give equal prompts different numbers.
  uint64_t sequence = 0;
};

/// Throws an Error if a prompt is empty, has an id outside the vocabulary, or leaves no room for this many tokens below
/// max_position_embeddings.
void check_prompt(const Prompt& prompt, const ModelConfig& config, int64_t new_tokens = 1);

/// Throws an Error if a prompt leaves no room below GenerationOptions::context.
void check_context(const Prompt& prompt, const GenerationOptions& options);

/// Throws an Error if the model cannot generate token by token.
void check_generates(const ModelConfig& config);

/// Throws an Error if the tokenizer has more ids than the model.
void check_tokenizer(const Tokenizer& tokenizer, const ModelConfig& config);

struct Continuation {
  /// The generated ids, with an EOS at the end and the tokens of a stop string.
  std::vector<int32_t> ids;
  /// Valid UTF-8, with U+FFFD for bytes of the model that are not a character. It does not include special tokens, EOS,
  /// the stop string and, at the very end, the start of an unfinished character.
  std::string text;
  StopReason reason = StopReason::max_new_tokens;
};

}  // namespace moe
