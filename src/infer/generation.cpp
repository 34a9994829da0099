#include "infer/generation.h"

#include "base/error.h"
#include "base/utf8.h"

namespace moe {

void validate(const GenerationOptions& options) {
  validate(options.sampling);
  if (options.context < 0) fail_usage("--context {}: expected 0 (as the model's) or more", options.context);
  if (options.max_new_tokens < 1) fail_usage("--max-new-tokens {}: expected 1 or more", options.max_new_tokens);
  if (options.prompt_lookup < 0 || options.prompt_lookup > kMostPromptLookup) {
    fail_usage("--prompt-lookup {}: expected 0 (no guesses) to {}", options.prompt_lookup, kMostPromptLookup);
  }
  for (const std::string& stop : options.stop) {
    if (stop.empty()) fail_usage("--stop: an empty string would stop at once; leave the option out");
    if (utf8_valid_prefix(stop) != stop.size()) {
      fail_usage("--stop {}: it is not UTF-8, and generated text always is, so it would never occur", valid_utf8(stop));
    }
  }
}

void check_prompt(const Prompt& prompt, const ModelConfig& config, int64_t new_tokens) {
  if (prompt.ids.empty()) fail("the prompt has no token; start from BOS");
  for (const int32_t id : prompt.ids) {
    if (id < 0 || id >= config.vocab_size) {
      fail("the prompt has the token {}, expected ids below the model's vocab_size {}", id, config.vocab_size);
    }
  }
  const auto count = static_cast<int64_t>(prompt.ids.size());
  if (count + new_tokens > config.max_position_embeddings) {
    fail("the prompt has {} tokens, but the model takes {} in all (max_position_embeddings); shorten it", count,
         config.max_position_embeddings);
  }
}

void check_context(const Prompt& prompt, const GenerationOptions& options) {
  const auto count = static_cast<int64_t>(prompt.ids.size());
  if (options.context == 0 || count < options.context) return;
  fail(
      "the prompt has {} tokens, but the context has room for {} in all; shorten the prompt, or allow a longer context",
      count, options.context);
}

void check_generates(const ModelConfig& config) {
  if (config.causal()) return;
  fail(
      "this model's experts choose their tokens from a whole text (routing = {}), so it cannot generate token by "
      "token; "
      "use `moe eval loss` or `moe logits`, or another model",
      config.routing_row().name);
}

void check_tokenizer(const Tokenizer& tokenizer, const ModelConfig& config) {
  if (tokenizer.id_count() <= config.vocab_size) return;
  fail("the tokenizer has ids up to {}, but the model's vocab_size is {}; they do not belong together",
       tokenizer.id_count() - 1, config.vocab_size);
}

}  // namespace moe
