#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/hf_config.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/routing_option.h"
#include "infer/generate.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Continues a text with the model in MODEL_DIR: a Hugging Face model folder (config.json, model.safetensors and
tokenizer files), such as a checkpoint that `moe train` wrote. Standard output carries the continuation alone,
while it is written; everything else goes to standard error. Without a prompt the model starts from BOS.

The next token is chosen from the logits in this order: --repetition-penalty, --temperature, --top-k, --top-p,
--min-p, then a draw. The defaults draw from the model's own distribution. The same seed gives the same text, for
any number of threads. Generation ends at the model's end-of-sequence token (not printed), before a --stop string,
after --max-new-tokens, or where the model has no further positions.

Examples:
  moe generate runs/demo/latest --prompt 'In the beginning' --max-new-tokens 100 --temperature 0.8 --top-p 0.95
  moe generate runs/demo/latest --prompt-file question.txt --temperature 0 --stop $'\n\n' > answer.txt)";

constexpr int kInterrupted = 130;

struct GenerateFlags {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string dtype = "f32";
  GenerationOptions generation;
  DeviceOptions device;
  RoutingSwitches switches;
  bool quiet = false;
};

void write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    fail("standard output could not be written");
  }
}

const char* text_of(StopReason reason) {
  switch (reason) {
    case StopReason::end_of_sequence:
      return "the model ended the text";
    case StopReason::stop_string:
      return "a stop string was reached";
    case StopReason::max_new_tokens:
      return "--max-new-tokens was reached";
    case StopReason::max_positions:
      return "the model has no further positions (max_position_embeddings)";
  }
  return "";
}

double rate(int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }

void report(const Continuation& result, const GenerationSpeed& speed) {
  log_info("\nprompt: {} tokens, {:.1f} tokens/s; continuation: {} tokens, {:.1f} tokens/s; {}", speed.prompt_tokens,
           rate(speed.prompt_tokens, speed.prompt_seconds), result.ids.size(),
           rate(speed.decode_tokens, speed.decode_seconds), text_of(result.reason));
}

void generate_text(const GenerateFlags& flags) {
  validate(flags.generation);
  const DType dtype = parse_dtype_option(flags.dtype);
  // All that was written is flushed, so leaving at once loses nothing, even in the middle of a long prompt's pass.
  std::signal(SIGINT, [](int) { std::_Exit(kInterrupted); });
  Compute compute = make_compute(flags.device);
  const ModelConfig config = read_hf_config(flags.model);
  check_generates(config);
  const std::string text = flags.prompt_file.empty() ? flags.prompt : read_file(flags.prompt_file);
  const Tokenizer tokenizer = Tokenizer::load(flags.model);
  const LoadedModel loaded(flags.model, dtype, *compute.device, flags.switches);
  if (!flags.quiet) {
    log_info("{}: {:.1f} M parameters, {} layers, {} tokens in the vocabulary; {} on {}, {} threads", flags.model,
             1e-6 * static_cast<double>(count_elements(parameter_table(config))), config.num_hidden_layers,
             tokenizer.id_count(), flags.dtype, flags.device.device, compute.pool.size());
    if (const std::string note = generation_note(config); !note.empty()) log_info("{}", note);
  }
  const Prompt prompt{.ids = encode_prompt(tokenizer, config, text)};
  GenerationSpeed speed;
  const Continuation result = generate({loaded.model(), dtype, *compute.device, *compute.backend}, tokenizer, prompt,
                                       flags.generation, write_stdout, &speed);
  if (!flags.quiet) report(result, speed);
}

void add_sampling_options(CLI::App& command, GenerationOptions& options) {
  SamplingOptions& sampling = options.sampling;
  command.add_option("--max-new-tokens", options.max_new_tokens, "the most tokens to add")->capture_default_str();
  command.add_option("--temperature", sampling.temperature, "divides the logits; 0: always the most likely token")
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "draw from the K most likely tokens; 0: all")->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "draw from the most likely tokens that together have this probability")
      ->capture_default_str();
  command.add_option("--min-p", sampling.min_p, "drop tokens below this fraction of the most likely one's probability")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", sampling.repetition_penalty,
                  "above 1: makes tokens less likely that the text has already, prompt included")
      ->capture_default_str();
  command.add_option("--stop", options.stop, "ends the text before this string; may be repeated")
      ->type_name("STRING")
      ->allow_extra_args(false);
  command.add_option("--seed", sampling.seed, "of the draws")->capture_default_str();
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Continues a text with a model");
  command->footer(kHelp);
  command->add_option("MODEL_DIR", flags->model, "folder with config.json, model.safetensors and tokenizer files")
      ->required()
      ->type_name("");
  CLI::Option* prompt = command->add_option("--prompt", flags->prompt, "text to continue")->type_name("TEXT");
  command->add_option("--prompt-file", flags->prompt_file, "file with the text to continue, taken as it is")
      ->type_name("FILE")
      ->excludes(prompt);
  add_sampling_options(*command, flags->generation);
  add_dtype_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  command->add_flag("--quiet", flags->quiet, "nothing but errors on standard error");
  command->callback([flags] { generate_text(*flags); });
}

}  // namespace moe
