#include "infer/generate.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/utf8.h"
#include "infer/cached_model.h"
#include "tokenizer/streaming_decoder.h"

namespace moe {
namespace {

constexpr int64_t kPromptTokensPerPass = 512;  // limits the memory of activations

void check_tokenizer(const Tokenizer& tokenizer, const ModelConfig& config) {
  if (tokenizer.id_count() <= config.vocab_size) return;
  fail("the tokenizer has ids up to {}, but the model's vocab_size is {}; they do not belong together",
       tokenizer.id_count() - 1, config.vocab_size);
}

/// The cache that prompts and their continuations need.
struct CacheSizes {
  int64_t sequences = 0, max_length = 1, max_tokens = 0;
};

CacheSizes cache_sizes(const ModelConfig& config, const std::vector<Prompt>& prompts,
                       const GenerationOptions& options) {
  CacheSizes sizes{.sequences = static_cast<int64_t>(prompts.size())};
  int64_t longest_prompt = 1;
  for (const Prompt& prompt : prompts) {
    const auto tokens = static_cast<int64_t>(prompt.ids.size());
    longest_prompt = std::max(longest_prompt, tokens);
    sizes.max_length = std::max(sizes.max_length, tokens + limits_of(prompt, options, config).new_tokens);
  }
  sizes.max_tokens = std::max(sizes.sequences, std::min(longest_prompt, kPromptTokensPerPass));
  return sizes;
}

}  // namespace

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const ModelConfig& config, std::string_view text,
                                   bool parse_special) {
  std::vector<int32_t> ids;
  if (text.empty()) {
    if (tokenizer.bos()) return {*tokenizer.bos()};
    if (config.bos_token_id) return {static_cast<int32_t>(*config.bos_token_id)};
    fail("the prompt is empty and neither the tokenizer nor config.json names a BOS token to start from; give a text");
  }
  tokenizer.encode(text, {.add_special = false, .parse_special = parse_special}, ids);
  const bool begins_with_bos = parse_special && !ids.empty() && ids.front() == tokenizer.bos();
  if (tokenizer.adds_bos() && !begins_with_bos) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

void check_prompt(const Prompt& prompt, const ModelConfig& config) {
  if (prompt.ids.empty()) fail("the prompt has no token; start from BOS");
  for (const int32_t id : prompt.ids) {
    if (id < 0 || id >= config.vocab_size) {
      fail("the prompt has the token {}, expected ids below the model's vocab_size {}", id, config.vocab_size);
    }
  }
  const auto count = static_cast<int64_t>(prompt.ids.size());
  if (count >= config.max_position_embeddings) {
    fail("the prompt has {} tokens, but the model takes {} in all (max_position_embeddings); shorten it", count,
         config.max_position_embeddings);
  }
}

void check_generates(const ModelConfig& config) {
  if (config.causal()) return;
  fail(
      "this model's experts choose their tokens from a whole text (routing = {}), so it cannot generate token by "
      "token; "
      "use `moe eval loss` or `moe logits`, or another model",
      config.routing_row().name);
}

std::string generation_note(const ModelConfig& config) {
  if (config.n_routed_experts == 0 || config.eval_capacity_factor == 0) return "";
  return fmt::format(
      "generation drops no choice of an expert, while evaluation limits them (eval_capacity_factor = {})",
      config.eval_capacity_factor);
}

int64_t generation_bytes(const ModelConfig& config, DType dtype, const std::vector<Prompt>& prompts,
                         const GenerationOptions& options) {
  if (prompts.empty()) return 0;
  const CacheSizes cache = cache_sizes(config, prompts, options);
  return CachedModel::bytes(config, dtype, cache.sequences, cache.max_length, cache.max_tokens);
}

std::vector<Continuation> generate_batch(const ModelOnDevice& runtime, const Tokenizer& tokenizer,
                                         const std::vector<Prompt>& prompts, const GenerationOptions& options,
                                         const OnText& on_text, GenerationSpeed* speed) {
  const ModelConfig& config = runtime.model.config();
  validate(options);
  check_generates(config);
  check_tokenizer(tokenizer, config);
  for (const Prompt& prompt : prompts) check_prompt(prompt, config);
  if (prompts.empty()) return {};

  Sampler sampler(options.sampling, ids_with_token(tokenizer, config.vocab_size));
  const CacheSizes cache = cache_sizes(config, prompts, options);
  CachedModel model(runtime, cache.sequences, cache.max_length, cache.max_tokens);
  GenerationSpeed measured;
  std::vector<Sequence> sequences;
  GenerationProgress progress;
  for (const Prompt& prompt : prompts) {
    progress.prompt_tokens += static_cast<int64_t>(prompt.ids.size());
    progress.most_new_tokens += limits_of(prompt, options, config).new_tokens;
  }
  const auto passed = [&](int64_t tokens) {
    progress.prompt_done += tokens;
    if (options.progress) options.progress(progress);
  };
  const auto extend = [&](size_t index, std::span<const float> logits) {
    const std::string text = sequences[index].extend(sampler, logits);
    ++progress.new_tokens;
    if (on_text && !text.empty()) on_text(index, text);
  };

  for (size_t i = 0; i < prompts.size(); ++i) {
    sequences.emplace_back(tokenizer, config, prompts[i], options);
    const double prompt_started = steady_seconds();
    const std::vector<float> logits = model.append(static_cast<int64_t>(i), prompts[i].ids, passed);
    measured.prompt_seconds += steady_seconds() - prompt_started;
    measured.prompt_tokens += static_cast<int64_t>(prompts[i].ids.size());
    extend(i, logits);
  }
  const auto vocab_size = static_cast<size_t>(config.vocab_size);
  const double started = steady_seconds();
  for (std::vector<int32_t> active, ids;; active.clear(), ids.clear()) {
    for (size_t i = 0; i < sequences.size(); ++i) {
      if (sequences[i].ended()) continue;
      active.push_back(static_cast<int32_t>(i));
      ids.push_back(sequences[i].last_id());
    }
    if (active.empty()) break;
    const std::vector<float> logits = model.append_each(active, ids);
    measured.decode_tokens += static_cast<int64_t>(active.size());
    for (size_t i = 0; i < active.size(); ++i) {
      extend(static_cast<size_t>(active[i]), std::span(logits).subspan(i * vocab_size, vocab_size));
    }
    progress.seconds = steady_seconds() - started;
    if (options.progress) options.progress(progress);
  }
  measured.decode_seconds = steady_seconds() - started;

  if (speed != nullptr) *speed = measured;
  std::vector<Continuation> results;
  for (Sequence& sequence : sequences) results.push_back(sequence.take_result());
  return results;
}

Continuation generate(const ModelOnDevice& runtime, const Tokenizer& tokenizer, const Prompt& prompt,
                      const GenerationOptions& options, const std::function<void(std::string_view)>& on_text,
                      GenerationSpeed* speed) {
  const OnText forward = [&](size_t, std::string_view text) {
    if (on_text) on_text(text);
  };
  return std::move(generate_batch(runtime, tokenizer, {prompt}, options, forward, speed).front());
}

}  // namespace moe
