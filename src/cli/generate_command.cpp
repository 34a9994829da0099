#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/units.h"
#include "checkpoint/end_tokens.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/routing_option.h"
#include "cli/standard_input.h"
#include "infer/generate.h"
#include "infer/loaded_model.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Continues a text with the model in MODEL_DIR. This is a Hugging Face model folder (config.json, model.safetensors and
tokenizer files), a GGUF file, or the folder of a run of `moe train`, which stands for its newest checkpoint. The
continuation goes to standard output as UTF-8, while it is generated; everything else goes to standard error. Without --prompt and
--prompt-file, the text is read from standard input if that is a pipe or a file; one line end at its end is removed.
Without any text the model starts from BOS.

The next token is chosen from the logits in this order: --repetition-penalty, --temperature, --top-k, --top-p,
--min-p, then a draw. The defaults draw from the model's own distribution. The same seed gives the same text, for
any number of threads. Generation ends at an end-of-sequence token (eos_token_id of config.json and of
generation_config.json, and the tokenizer's; it is not printed), before a --stop string, after --max-new-tokens, or when
the model has no more positions.

Examples:
  moe generate runs/demo --prompt 'In the beginning' --max-new-tokens 100 --temperature 0.8 --top-p 0.95
  echo 'In the beginning' | moe generate runs/demo --seed 7
  moe generate deepseek-moe-16b-chat.Q4_0.gguf --dtype q4_0 --prompt-file chat.txt --parse-special
  moe generate runs/demo --prompt-file question.txt --temperature 0 --stop $'\n\n' > answer.txt)";

constexpr int kInterrupted = 130;

struct GenerateFlags {
  std::string model;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string dtype = "f32";
  GenerationOptions generation;
  DeviceOptions device;
  RoutingSwitches switches;
  bool parse_special = false;
  bool quiet = false;
};

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

/// Far more than any model takes in.
constexpr size_t kMostPromptBytes = size_t{64} << 20;

std::string given_prompt(const GenerateFlags& flags) {
  if (!flags.prompt_file.empty()) return read_file(flags.prompt_file);
  const bool wanted = flags.prompt == "-";
  if (!wanted && (flags.prompt || !standard_input_is_given())) return flags.prompt.value_or("");
  std::string text = read_standard_input();
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

/// The text. It is read before anything is loaded.
std::string prompt_text(const GenerateFlags& flags) {
  std::string text = given_prompt(flags);
  if (text.size() <= kMostPromptBytes) return text;
  fail("the prompt has {} MiB, expected at most {}; give the end of it", text.size() >> 20, kMostPromptBytes >> 20);
}

/// On a terminal. New tokens are counted only if the text does not go to the terminal.
void show_progress(const GenerationProgress& progress) {
  static const bool text_is_shown = isatty(STDOUT_FILENO) == 1;
  if (progress.new_tokens == 0) {
    show_status(fmt::format("reading the prompt: {} of {} tokens", progress.prompt_done, progress.prompt_tokens));
  } else if (!text_is_shown) {
    show_status(fmt::format("{} of at most {} tokens, {:.1f} tokens/s", progress.new_tokens, progress.most_new_tokens,
                            rate(progress.new_tokens, progress.seconds)));
  }
}

void report(const Continuation& result, const GenerationSpeed& speed) {
  clear_status();
  log_info("\nprompt: {}, {:.1f} tokens/s; continuation: {}, {:.1f} tokens/s; {}",
           counted(speed.prompt_tokens, "token"), rate(speed.prompt_tokens, speed.prompt_seconds),
           counted(result.ids.size(), "token"), rate(speed.decode_tokens, speed.decode_seconds),
           text_of(result.reason));
}

void generate_text(const GenerateFlags& flags) {
  validate(flags.generation);
  const std::string text = prompt_text(flags);
  const DType weights = parse_weights_option(flags.dtype);
  // All that was written is flushed, so leaving at once loses nothing, even in the middle of a long prompt's pass.
  std::signal(SIGINT, [](int) { std::_Exit(kInterrupted); });
  Compute compute = make_compute(flags.device);
  const ModelConfig config = read_model_config(flags.model);
  check_generates(config);
  const Tokenizer tokenizer = Tokenizer::load(flags.model);
  show_status("reading the weights of " + flags.model);
  const LoadedModel loaded(flags.model, weights, *compute.device, flags.switches);
  clear_status();
  if (!flags.quiet) {
    log_info("{}: {:.1f} M parameters, {}, {} tokens in the vocabulary; {} on {}", flags.model,
             1e-6 * static_cast<double>(count_elements(parameter_table(config))),
             counted(config.num_hidden_layers, "layer"), tokenizer.id_count(), flags.dtype, device_name(compute));
    if (const std::string note = generation_note(config); !note.empty()) log_info("{}", note);
  }
  const Prompt prompt{.ids = encode_prompt(tokenizer, config, text, flags.parse_special)};
  const auto show = [](std::string_view piece) {
    clear_status();
    print_text(piece);
    flush_output();
  };
  GenerationSpeed speed;
  GenerationOptions options = flags.generation;
  options.end_ids = read_end_tokens(flags.model);
  if (!flags.quiet) options.progress = show_progress;
  const Continuation result = generate({loaded.model(), loaded.dtype(), *compute.device, *compute.backend}, tokenizer,
                                       prompt, options, show, &speed);
  if (!flags.quiet) report(result, speed);
}

void add_sampling_options(CLI::App& command, GenerationOptions& options) {
  SamplingOptions& sampling = options.sampling;
  constexpr int64_t kMostTokens = INT32_MAX;
  add_number(command, "--max-new-tokens", options.max_new_tokens, {1, kMostTokens}, "the most tokens to add");
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
  command.add_option("--stop", options.stop, "end the text before this string; may be repeated")
      ->type_name("STRING")
      ->allow_extra_args(false);
  add_seed(command, "--seed", sampling.seed, "of the draws");
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Continues a text with a model");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "folder with config.json, model.safetensors and tokenizer files")
      ->required();
  const auto take_prompt = [flags](const std::string& text) { flags->prompt = text; };
  CLI::Option* prompt = command
                            ->add_option_function<std::string>("--prompt", take_prompt,
                                                               "text to continue; -: read it from standard input")
                            ->type_name("TEXT");
  command->add_option("--prompt-file", flags->prompt_file, "file with the text to continue; nothing is removed from it")
      ->type_name("FILE")
      ->excludes(prompt);
  command->add_flag(
      "--parse-special", flags->parse_special,
      "special tokens in the text become their ids, as chat templates write them (default: ordinary text)");
  add_sampling_options(*command, flags->generation);
  add_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  command->add_flag("--quiet", flags->quiet, "print only errors on standard error");
  command->callback([flags] { generate_text(*flags); });
}

}  // namespace moe
