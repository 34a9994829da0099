#pragma once
/// Continues prompts with a model: one or several at once. Each gives the same result as alone.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "infer/forward.h"
#include "infer/sampler.h"
#include "tokenizer/tokenizer.h"

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

/// Tokens and seconds of one call: for the prompts' passes through the model, and for everything after them. The first
/// new token of a sequence comes from its prompt's pass, so `decode_tokens` counts only the others.
struct GenerationSpeed {
  int64_t prompt_tokens = 0;
  int64_t decode_tokens = 0;
  double prompt_seconds = 0;
  double decode_seconds = 0;
};

/// Passes on text as soon as it is certain to be part of the result. Text that may begin a stop string is held back.
/// Use it on one thread at a time.
class StopStrings {
 public:
  /// None may be empty.
  explicit StopStrings(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  /// The bytes that can be shown after `bytes`. The result does not depend on how the text is divided into calls. The
  /// first complete stop string ends the text; if several end at the same byte, the longest one counts.
  std::string push(std::string_view bytes);
  /// True after a stop string was complete. Then nothing may be pushed.
  bool stopped() const { return stopped_; }
  /// The text that was held back, when no more text will come. Empty after a stop.
  std::string flush();

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

/// The ids of a prompt: BOS before the text if the tokenizer adds one (once), and never an EOS. An empty text becomes
/// BOS alone; the tokenizer or else the model's configuration must name it.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const ModelConfig& config, std::string_view text);

/// Throws an Error if a prompt is empty, has an id outside the vocabulary, or leaves no room below
/// max_position_embeddings.
void check_prompt(const Prompt& prompt, const ModelConfig& config);

/// Throws an Error if the model cannot generate token by token.
void check_generates(const ModelConfig& config);

/// How generation differs from evaluation, for people; "" if it does not.
std::string generation_note(const ModelConfig& config);

/// Called with the index of a prompt and the whole characters that are added to its text. The pieces of one prompt, put
/// together, are its Continuation's text.
using OnText = std::function<void(size_t, std::string_view)>;

/// Continues every prompt, each exactly as if it were alone (with the same bits, on backends whose rows do not depend
/// on other rows). A sequence that ends leaves the batch. Errors: a prompt that is empty, has an id outside the
/// vocabulary, or leaves no room below max_position_embeddings; an option out of range; a tokenizer with more ids than
/// the model has rows.
std::vector<Continuation> generate_batch(const Runtime& runtime, const Tokenizer& tokenizer,
                                         const std::vector<Prompt>& prompts, const GenerationOptions& options,
                                         const OnText& on_text = {}, GenerationSpeed* speed = nullptr);

/// The same for one prompt.
Continuation generate(const Runtime& runtime, const Tokenizer& tokenizer, const Prompt& prompt,
                      const GenerationOptions& options, const std::function<void(std::string_view)>& on_text = {},
                      GenerationSpeed* speed = nullptr);

/// Bytes that generate_batch allocates on its device. Nothing is allocated.
int64_t generation_bytes(const ModelConfig& config, DType dtype, const std::vector<Prompt>& prompts,
                         const GenerationOptions& options);

}  // namespace moe
