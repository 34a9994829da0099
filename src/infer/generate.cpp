#include "infer/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/streaming_decoder.h"

namespace moe {
namespace {

constexpr int64_t kPromptTokensPerPass = 512;  // limits the memory of activations

struct Limits {
  int64_t new_tokens;
  StopReason reason;  // why no more may come
};

Limits limits_of(const Prompt& prompt, const GenerationOptions& options, const ModelConfig& config) {
  const int64_t room = config.max_position_embeddings - static_cast<int64_t>(prompt.ids.size());
  if (room < options.max_new_tokens) return {room, StopReason::max_positions};
  return {options.max_new_tokens, StopReason::max_new_tokens};
}

/// One sequence while it grows.
class Sequence {
 public:
  Sequence(const Tokenizer& tokenizer, const ModelConfig& config, const Prompt& prompt,
           const GenerationOptions& options)
      : ids_(prompt.ids),
        number_(prompt.sequence),
        limits_(limits_of(prompt, options, config)),
        end_ids_(options.end_ids.begin(), options.end_ids.end()),
        decoder_(tokenizer),
        stop_(options.stop) {
    end_ids_.insert(end_ids_.end(), {tokenizer.eos(), config.eos_token_id});
  }

  /// Chooses the next token. Returns the text that can be shown now.
  std::string extend(Sampler& sampler, std::span<const float> logits) {
    const int32_t id = sampler.sample(logits, ids_, number_, ids_.size());
    ids_.push_back(id);
    result_.ids.push_back(id);
    std::string text;
    if (std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end()) {
      end(StopReason::end_of_sequence, text);
    } else {
      text = stop_.push(decoder_.push(id));
      if (stop_.stopped()) {
        end(StopReason::stop_string, text);
      } else if (static_cast<int64_t>(result_.ids.size()) >= limits_.new_tokens) {
        end(limits_.reason, text);
      }
    }
    result_.text += text;
    return text;
  }

  bool ended() const { return ended_; }
  int32_t last_id() const { return ids_.back(); }
  Continuation take_result() { return std::move(result_); }

 private:
  // The rest in the decoder is the start of a character that will not be finished, so it is dropped.
  void end(StopReason reason, std::string& text) {
    text += stop_.flush();
    result_.reason = reason;
    ended_ = true;
  }

  std::vector<int32_t> ids_;
  uint64_t number_;
  Limits limits_;
  std::vector<std::optional<int64_t>> end_ids_;
  StreamingDecoder decoder_;
  StopStrings stop_;
  Continuation result_;
  bool ended_ = false;
};

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

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

void validate(const GenerationOptions& options) {
  validate(options.sampling);
  if (options.max_new_tokens < 1) fail_usage("--max-new-tokens {}: expected 1 or more", options.max_new_tokens);
  for (const std::string& stop : options.stop) {
    if (stop.empty()) fail_usage("--stop: an empty string would stop at once; leave the option out");
    if (utf8_valid_prefix(stop) != stop.size()) {
      fail_usage("--stop {}: it is not UTF-8, and generated text always is, so it would never occur", valid_utf8(stop));
    }
  }
}

std::string StopStrings::push(std::string_view bytes) {
  MOE_CHECK(!stopped_);
  held_ += bytes;
  size_t end = std::string::npos, begin = 0;
  for (const std::string& stop : stop_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
      begin = at;
      end = at + stop.size();
    }
  }
  if (end != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, {}).substr(0, begin);
  }
  size_t kept = 0;  // bytes at the end that may be the beginning of a stop string
  for (const std::string& stop : stop_) {
    size_t part = std::min(stop.size() - 1, held_.size());
    while (part > kept && !std::string_view(held_).ends_with(std::string_view(stop).substr(0, part))) --part;
    kept = std::max(kept, part);
  }
  std::string shown = held_.substr(0, held_.size() - kept);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const ModelConfig& config, std::string_view text) {
  std::vector<int32_t> ids;
  if (text.empty()) {
    if (tokenizer.bos()) return {*tokenizer.bos()};
    if (config.bos_token_id) return {static_cast<int32_t>(*config.bos_token_id)};
    fail("the prompt is empty and neither the tokenizer nor config.json names a BOS token to start from; give a text");
  }
  if (tokenizer.adds_bos()) ids.push_back(*tokenizer.bos());
  tokenizer.encode(text, {.add_special = false}, ids);
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
  if (config.n_routed_experts == 0 || config.routing != RoutingMethod::expert_choice) return;
  fail(
      "this model's experts choose their tokens from a whole text (routing = expert_choice), so it cannot generate "
      "token by token; use `moe eval loss` or `moe logits`, or another model");
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

std::vector<Continuation> generate_batch(const Runtime& runtime, const Tokenizer& tokenizer,
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
    const Stopwatch prompt_watch;
    const std::vector<float> logits = model.append(static_cast<int64_t>(i), prompts[i].ids, passed);
    measured.prompt_seconds += prompt_watch.seconds();
    measured.prompt_tokens += static_cast<int64_t>(prompts[i].ids.size());
    extend(i, logits);
  }
  const auto vocab_size = static_cast<size_t>(config.vocab_size);
  const Stopwatch watch;
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
    progress.seconds = watch.seconds();
    if (options.progress) options.progress(progress);
  }
  measured.decode_seconds = watch.seconds();

  if (speed != nullptr) *speed = measured;
  std::vector<Continuation> results;
  for (Sequence& sequence : sequences) results.push_back(sequence.take_result());
  return results;
}

Continuation generate(const Runtime& runtime, const Tokenizer& tokenizer, const Prompt& prompt,
                      const GenerationOptions& options, const std::function<void(std::string_view)>& on_text,
                      GenerationSpeed* speed) {
  const OnText forward = [&](size_t, std::string_view text) {
    if (on_text) on_text(text);
  };
  return std::move(generate_batch(runtime, tokenizer, {prompt}, options, forward, speed).front());
}

}  // namespace moe
