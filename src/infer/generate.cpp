#include "infer/generate.h"

#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "infer/engine.h"

namespace moe {
namespace {

/// More sequences at once save little time for each, and their cache costs memory.
constexpr int64_t kMostSequences = 64;

std::vector<Request> requests_of(const std::vector<Prompt>& prompts, const GenerationOptions& options) {
  std::vector<Request> requests;
  for (const Prompt& prompt : prompts) requests.push_back({.prompt = prompt, .options = options});
  return requests;
}

EngineSizes sizes_of(const ModelConfig& config, const std::vector<Request>& requests, const GenerationOptions& options,
                     bool on_device) {
  return engine_sizes(config, requests, kMostSequences, options.tokens_per_pass, on_device);
}

/// Adds one pass of `seconds` to the times of prompts, or if it had none, to that of single tokens.
void add_pass(GenerationSpeed& speed, const EngineCounts& before, const EngineCounts& after, double seconds) {
  if (after.prompt_tokens > before.prompt_tokens) {
    speed.prompt_tokens += after.prompt_tokens - before.prompt_tokens;
    speed.prompt_seconds += seconds;
  } else {
    speed.decode_tokens += after.single_tokens - before.single_tokens;
    speed.decode_seconds += seconds;
  }
}

}  // namespace

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const ModelConfig& config, std::string_view text,
                                   bool parse_special) {
  if (text.empty()) {
    if (tokenizer.bos()) return {*tokenizer.bos()};
    if (config.bos_token_id) return {static_cast<int32_t>(*config.bos_token_id)};
    fail("the prompt is empty and neither the tokenizer nor config.json names a BOS token to start from; give a text");
  }
  return encode_after_bos(tokenizer, text, parse_special);
}

std::string generation_note(const ModelConfig& config) {
  if (config.n_routed_experts == 0 || config.eval_capacity_factor == 0) return "";
  return fmt::format(
      "generation drops no choice of an expert, while evaluation limits them (eval_capacity_factor = {})",
      config.eval_capacity_factor);
}

int64_t generation_bytes(const HeldModel& held, const PassTypes& types, const std::vector<Prompt>& prompts,
                         const GenerationOptions& options, bool on_device) {
  if (prompts.empty()) return 0;
  return Engine::bytes(held, types, sizes_of(held.config, requests_of(prompts, options), options, on_device));
}

std::vector<Continuation> generate_batch(const ModelOnDevice& runtime, const Tokenizer& tokenizer,
                                         const std::vector<Prompt>& prompts, const GenerationOptions& options,
                                         const OnText& on_text, GenerationSpeed* speed) {
  const ModelConfig& config = runtime.model.config();
  validate(options);
  check_generates(config);
  check_tokenizer(tokenizer, config);
  for (const Prompt& prompt : prompts) {
    check_prompt(prompt, config);
    check_context(prompt, options);
  }
  if (prompts.empty()) return {};

  const std::vector<Request> requests = requests_of(prompts, options);
  Engine engine(runtime, &tokenizer, sizes_of(config, requests, options, runtime.device.records()));
  GenerationProgress progress;
  for (const Request& request : requests) {
    engine.admit(request);  // the engine counts requests from 0
    progress.prompt_tokens += static_cast<int64_t>(request.prompt.ids.size());
    progress.most_new_tokens += limits_of(request.prompt, options, config).new_tokens;
  }
  GenerationSpeed measured;
  std::vector<Continuation> results(prompts.size());
  while (!engine.idle()) {
    const EngineCounts before = engine.counts();
    const double started = steady_seconds();
    const std::vector<Event> events = engine.step();
    const double seconds = steady_seconds() - started;
    add_pass(measured, before, engine.counts(), seconds);
    for (const Event& event : events) {
      if (!event.error.empty()) fail("{}", event.error);
      const auto index = static_cast<size_t>(event.request);
      Continuation& result = results[index];
      result.ids.push_back(*event.id);
      result.text += event.text;
      result.reason = event.reason;
      ++progress.new_tokens;
      if (on_text && !event.text.empty()) on_text(index, event.text);
    }
    const EngineCounts now = engine.counts();
    progress.prompt_done = now.prompt_tokens + now.reused_tokens;
    progress.seconds = measured.decode_seconds;
    if (options.progress) options.progress(progress);
  }
  const EngineCounts counts = engine.counts();
  measured.drafted_tokens = counts.drafted;
  measured.accepted_tokens = counts.accepted;
  measured.saved_seconds = engine.gain().saved_seconds();
  if (speed != nullptr) *speed = measured;
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
