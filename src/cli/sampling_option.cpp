#include "cli/sampling_option.h"

#include "cli/number_option.h"

namespace moe {

void add_sampling_options(CLI::App& command, GenerationOptions& options) {
  SamplingOptions& sampling = options.sampling;
  constexpr int64_t kMostTokens = INT32_MAX;
  add_number(command, "--max-new-tokens", options.max_new_tokens, {1, kMostTokens}, "the most tokens to add");
  add_number(command, "--context", options.context, {0, kMostTokens},
             "the most tokens of the prompt and its continuation together; 0: as many as the model has positions");
  add_number(command, "--temperature", sampling.temperature, {.least = 0, .most = kMostTemperature},
             "divides the logits; 0: always the most likely token");
  add_number(command, "--top-k", sampling.top_k, {0, kMostTokens}, "draw from the K most likely tokens; 0: all");
  add_number(command, "--top-p", sampling.top_p, {.least = 0, .most = 1, .above = true},
             "draw from the most likely tokens that together have this probability; 1: all");
  add_number(command, "--min-p", sampling.min_p, {.least = 0, .most = 1},
             "drop tokens whose probability is below this fraction of the largest probability");
  add_number(command, "--repetition-penalty", sampling.repetition_penalty,
             {.least = 1 / kMostPenalty, .most = kMostPenalty},
             "above 1: makes tokens less likely that are already in the text or the prompt");
  add_number(command, "--presence-penalty", sampling.presence_penalty,
             {.least = -kMostAddedPenalty, .most = kMostAddedPenalty},
             "subtracted from the logit of each token that is already in the text or the prompt");
  add_number(command, "--frequency-penalty", sampling.frequency_penalty,
             {.least = -kMostAddedPenalty, .most = kMostAddedPenalty}, "the same, as often as the token is there");
  command.add_option("--stop", options.stop, "end the text before this string; may be repeated")
      ->type_name("STRING")
      ->allow_extra_args(false);
  add_number(
      command, "--prompt-lookup", options.prompt_lookup, {0, kMostPromptLookup},
      "guess up to N next tokens from what followed the same words before; the text stays the same, and guessing "
      "stops where it does not pay; 0: off");
  add_seed(command, "--seed", sampling.seed, "of the draws");
}

}  // namespace moe
