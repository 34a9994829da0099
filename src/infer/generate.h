#pragma once
/// Continues prompts with a model: one or several at once. Each gives the same result as alone.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "infer/model_on_device.h"
#include "infer/sampler.h"
#include "infer/sequence.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// Tokens and seconds of one call: of passes of the model that had tokens of prompts, and of the other passes, which
/// had single new tokens alone. Tokens of prompts whose keys and values were there already are not counted. The first
/// new token of a sequence comes from its prompt's pass.
struct GenerationSpeed {
  int64_t prompt_tokens = 0;
  int64_t decode_tokens = 0;
  double prompt_seconds = 0;
  double decode_seconds = 0;
  /// Of GenerationOptions::prompt_lookup: guesses, those of them that were right, and what they have saved (DraftGain).
  int64_t drafted_tokens = 0;
  int64_t accepted_tokens = 0;
  double saved_seconds = 0;
};

/// The ids of a prompt: BOS before the text if the tokenizer adds one (once), and never an EOS. An empty text becomes
/// BOS alone; the tokenizer or else the model's configuration must name it. With `parse_special`, special tokens in the
/// text become their ids, and a text that begins with BOS gets no other.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const ModelConfig& config, std::string_view text,
                                   bool parse_special = false);

/// How generation differs from evaluation, for people; "" if it does not.
std::string generation_note(const ModelConfig& config);

/// Called with the index of a prompt and the whole characters that are added to its text. The pieces of one prompt, put
/// together, are its Continuation's text.
using OnText = std::function<void(size_t, std::string_view)>;

/// Continues every prompt, each exactly as if it were alone (with the same bits, on backends whose rows do not depend
/// on other rows). Prompts that begin with the same pages of tokens have them computed once. Errors: a prompt that is
/// empty, has an id outside the vocabulary, or leaves no room below max_position_embeddings; an option out of range; a
/// tokenizer with more ids than the model has rows.
std::vector<Continuation> generate_batch(const ModelOnDevice& runtime, const Tokenizer& tokenizer,
                                         const std::vector<Prompt>& prompts, const GenerationOptions& options,
                                         const OnText& on_text = {}, GenerationSpeed* speed = nullptr);

/// The same for one prompt.
Continuation generate(const ModelOnDevice& runtime, const Tokenizer& tokenizer, const Prompt& prompt,
                      const GenerationOptions& options, const std::function<void(std::string_view)>& on_text = {},
                      GenerationSpeed* speed = nullptr);

/// Bytes that generate_batch allocates on its device, for a model or a rank's part. Nothing is allocated. `on_device`:
/// Device::records().
int64_t generation_bytes(const HeldModel& held, const PassTypes& types, const std::vector<Prompt>& prompts,
                         const GenerationOptions& options, bool on_device = false);

}  // namespace moe
