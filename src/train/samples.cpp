#include "train/samples.h"

#include "base/error.h"
#include "base/output.h"
#include "chat/format.h"

namespace moe {

std::vector<Prompt> sample_prompts(const Dataset& train, const Tokenizer& tokenizer, const ModelConfig& model,
                                   const SampleConfig& config) {
  std::vector<Prompt> prompts;
  std::optional<ChatFormat> chat;
  if (!config.prompts.empty() && !train.info().answer_ends.empty()) chat.emplace(train.folder(), tokenizer);
  for (size_t i = 0; i < config.prompts.size(); ++i) {
    try {
      const std::string& text = config.prompts[i];
      prompts.push_back(
          {chat ? chat->encode(chat->prompt({{kUser, text}})) : encode_prompt(tokenizer, model, text), i});
      check_prompt(prompts.back(), model);
    } catch (const Error& error) {
      fail("sample.prompts, number {}: {}", i + 1, error.what());
    }
  }
  return prompts;
}

std::vector<Sample> make_samples(const ModelOnDevice& runtime, const Dataset& train, const Tokenizer& tokenizer,
                                 const SampleConfig& config, uint64_t seed, const std::function<void()>& between) {
  const GenerationOptions options{.max_new_tokens = config.max_new_tokens,
                                  .end_ids = train.info().answer_ends,
                                  .stop = {},
                                  .sampling = {.temperature = config.temperature, .seed = seed},
                                  .progress = [&](const GenerationProgress&) { between(); }};
  const std::vector<Prompt> prompts = sample_prompts(train, tokenizer, runtime.model.config(), config);
  const std::vector<Continuation> texts = generate_batch(runtime, tokenizer, prompts, options);
  std::vector<Sample> samples;
  for (size_t i = 0; i < texts.size(); ++i) samples.push_back({config.prompts[i], texts[i].text});
  return samples;
}

void print_samples(const std::vector<Sample>& samples, int64_t step) {
  std::string out = fmt::format("--- samples after step {} ---\n", step);
  for (const Sample& sample : samples) out += fmt::format("[{}]{}\n", sample.prompt, sample.text);
  out += "---\n";
  offer_output(out);
}

}  // namespace moe
