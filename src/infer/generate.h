#pragma once
/// Continuing prompts with a model: one or several at once, each as if it were alone.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "infer/forward.h"
#include "infer/sampler.h"
#include "tokenizer/tokenizer.h"

namespace moe {

enum class StopReason {
  end_of_sequence,  ///< the model chose EOS or another id that ends a text
  stop_string,      ///< the text reached one of the stop strings
  max_new_tokens,
  max_positions,  ///< prompt and continuation have max_position_embeddings tokens
};

/// How far generate_batch() is, summed over its prompts.
struct GenerationProgress {
  int64_t prompt_done = 0;  ///< tokens that went through the model
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  int64_t most_new_tokens = 0;
  double seconds = 0;  ///< since the prompts were read
};

struct GenerationOptions {
  int64_t max_new_tokens = 256;
  /// Ids that end the text, beside the tokenizer's EOS and the model configuration's.
  std::vector<int32_t> end_ids = {};
  /// Text ends before the first of these that is complete. Valid UTF-8, as the text is; none may be empty.
  std::vector<std::string> stop = {};
  SamplingOptions sampling = {};
  /// Called after each pass of the model; may be empty.
  std::function<void(const GenerationProgress&)> progress = {};
};

/// Throws UsageError naming the option (as the command line spells it) that is out of its range.
void validate(const GenerationOptions& options);

struct Prompt {
  std::vector<int32_t> ids;
  /// Selects the draws, together with the seed and the position: give equal prompts different numbers.
  uint64_t sequence = 0;
};

struct Continuation {
  /// What was generated, an EOS at the end included; a stop string's tokens too.
  std::vector<int32_t> ids;
  /// Valid UTF-8, with U+FFFD for bytes of the model that are no character. Without special tokens, EOS, stop string
  /// and, at the very end, the start of an unfinished character.
  std::string text;
  StopReason reason = StopReason::max_new_tokens;
};

/// Tokens and seconds of one call: the prompts' passes through the model, and all after them. A sequence's first new
/// token comes from its prompt's pass, so `decode_tokens` counts the others.
struct GenerationSpeed {
  int64_t prompt_tokens = 0;
  int64_t decode_tokens = 0;
  double prompt_seconds = 0;
  double decode_seconds = 0;
};

/// Hands out text as soon as it is sure to be shown: what may be the beginning of a stop string is held back.
class StopStrings {
 public:
  /// None may be empty.
  explicit StopStrings(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  /// The bytes that can be shown after `bytes`. The result does not depend on how the text is cut into calls: the stop
  /// string that is complete first ends it, the longest one where several end at the same byte.
  std::string push(std::string_view bytes);
  /// True once a stop string was complete; nothing may be pushed then.
  bool stopped() const { return stopped_; }
  /// What is held back, when no more text will come; empty after a stop.
  std::string flush();

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

/// The ids of a prompt: BOS before the text where the tokenizer puts one (once; never an EOS behind it). An empty text
/// is BOS alone, which the tokenizer or, failing that, the model's configuration must name.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const ModelConfig& config, std::string_view text);

/// Throws Error where a prompt is empty, has an id outside the vocabulary or leaves no room below
/// max_position_embeddings.
void check_prompt(const Prompt& prompt, const ModelConfig& config);

/// Throws Error where the model cannot go on token by token.
void check_generates(const ModelConfig& config);

/// What generation does otherwise than evaluation, for people; "": nothing.
std::string generation_note(const ModelConfig& config);

/// Called with the index of a prompt and the whole characters that its text grows by. The pieces of one prompt, put
/// together, are its Continuation's text.
using OnText = std::function<void(size_t, std::string_view)>;

/// Continues every prompt, each exactly as it would be alone (the same bits, on backends whose rows do not depend on
/// their neighbours); sequences that end drop out of the batch. Errors: a prompt that is empty, has an id outside the
/// vocabulary or leaves no room below max_position_embeddings; options out of range; a tokenizer with more ids than the
/// model has rows.
std::vector<Continuation> generate_batch(const Runtime& runtime, const Tokenizer& tokenizer,
                                         const std::vector<Prompt>& prompts, const GenerationOptions& options,
                                         const OnText& on_text = {}, GenerationSpeed* speed = nullptr);

/// The same for one prompt.
Continuation generate(const Runtime& runtime, const Tokenizer& tokenizer, const Prompt& prompt,
                      const GenerationOptions& options, const std::function<void(std::string_view)>& on_text = {},
                      GenerationSpeed* speed = nullptr);

}  // namespace moe
