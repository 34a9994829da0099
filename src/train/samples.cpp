#include "train/samples.h"

#include "base/error.h"
#include "base/output.h"

namespace moe {

std::vector<Prompt> sample_prompts(const Tokenizer& tokenizer, const ModelConfig& model, const SampleConfig& config) {
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < config.prompts.size(); ++i) {
    try {
      prompts.push_back({encode_prompt(tokenizer, model, config.prompts[i]), i});
      check_prompt(prompts.back(), model);
    } catch (const Error& error) {
      fail("sample.prompts, number {}: {}", i + 1, error.what());
    }
  }
  return prompts;
}

std::vector<Sample> write_samples(const ModelOnDevice& runtime, const Tokenizer& tokenizer, const SampleConfig& config,
                                  int64_t step, uint64_t seed, const std::function<void()>& between) {
  const GenerationOptions options{.max_new_tokens = config.max_new_tokens,
                                  .stop = {},
                                  .sampling = {.temperature = config.temperature, .seed = seed},
                                  .progress = [&](const GenerationProgress&) { between(); }};
  const std::vector<Prompt> prompts = sample_prompts(tokenizer, runtime.model.config(), config);
  const std::vector<Continuation> texts = generate_batch(runtime, tokenizer, prompts, options);
  std::string out = fmt::format("--- samples after step {} ---\n", step);
  std::vector<Sample> samples;
  for (size_t i = 0; i < texts.size(); ++i) {
    out += fmt::format("[{}]{}\n", config.prompts[i], texts[i].text);
    samples.push_back({config.prompts[i], texts[i].text});
  }
  out += "---\n";
  offer_output(out);
  return samples;
}

}  // namespace moe
