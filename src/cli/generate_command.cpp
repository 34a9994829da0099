#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/units.h"
#include "checkpoint/open_model.h"
#include "cli/batch_invariant_option.h"
#include "cli/cache_option.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/exit_status.h"
#include "cli/expert_place.h"
#include "cli/generate_lines.h"
#include "cli/generation_plan.h"
#include "cli/inference_ranks.h"
#include "cli/lora_option.h"
#include "cli/memory_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/routing_option.h"
#include "cli/sampling_option.h"
#include "cli/standard_input.h"
#include "cli/weights_option.h"
#include "infer/engine.h"
#include "infer/generate.h"
#include "infer/loaded_model.h"
#include "tokenizer/tokenizer.h"
#include "train/amounts.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Continues a text with the model in MODEL_DIR. This is a Hugging Face model folder (config.json, model.safetensors and
tokenizer files), a GGUF file, or the folder of a run of `moe train`, which stands for its newest checkpoint. The
continuation goes to standard output as UTF-8, while it is generated; everything else goes to standard error. Without --prompt and
--prompt-file, the text is read from standard input if that is a pipe or a file; one line end at its end is removed.
Without any text the model starts from BOS.

The next token is chosen from the logits in this order: --repetition-penalty, --presence-penalty and
--frequency-penalty, --temperature, --top-k, --top-p, --min-p, then a draw. The defaults draw from the model's own distribution. The same seed gives the same text, for
any number of threads. Generation ends at an end-of-sequence token (eos_token_id of config.json and of
generation_config.json, and the tokenizer's; it is not printed), before a --stop string, after --max-new-tokens, or when
the model has no more positions.

--samples, --logprobs and --prompts write one JSON object a line instead of the text: "text", "ids", "reason" (why it
ended), and with --logprobs the log-probability of each token under the model's own distribution. --prompts FILE.jsonl
answers many prompts together, in their order. Each line of the file is a string, or an object with "prompt" (or "ids")
and, if wanted, "id" (repeated in the answer), "max_new_tokens", "temperature", "top_k", "top_p", "min_p",
"repetition_penalty", "presence_penalty", "frequency_penalty", "seed", "stop". A line with "continuation" gets the log-probabilities of that text after the prompt
and generates nothing. A beginning that several prompts share is computed once. docs/inference.md says more.

A model that is larger than the GPU's memory keeps the routed experts of some layers in the host's memory, and the CPU
computes them: of all layers with --cpu-moe, of the first N with --n-cpu-moe N, else of as many as needed. Or several GPUs
hold it together: --ranks N starts N - 1 further processes, and each of them has a GPU and 1/N of the routed experts of
each layer, or of the layers of a dense model. N must divide the number of experts. With --expert-parallel E, groups of E
ranks divide the layers, and the ranks of a group the experts of these (docs/parallelism.md).

llama.cpp's names work too: -m, -p, -f, -n, -c, -t, -s, --temp, --repeat-penalty.

Examples:
  moe generate runs/demo --prompt 'In the beginning' --max-new-tokens 100 --temperature 0.8 --top-p 0.95
  echo 'In the beginning' | moe generate runs/demo --seed 7
  moe generate deepseek-moe-16b-chat.Q4_0.gguf --prompt-file chat.txt --parse-special
  moe generate runs/demo --prompts questions.jsonl --temperature 0 > answers.jsonl
  moe generate deepseek-moe-16b-chat.Q8_0.gguf --prompt Hello --memory-limit 12GB --dry-run
  moe generate runs/demo --prompt 'In the' --samples 8 --logprobs 3
  moe generate deepseek-moe-16b-chat.Q8_0.gguf --ranks 2 --prompt Hello
  moe generate deepseek-moe-16b-chat --ranks 4 --expert-parallel 2 --dry-run
  moe generate runs/demo --lora runs/polite --lora runs/short:0.5 --prompt 'Who are you?'
  moe generate runs/demo --prompt-file question.txt --temperature 0 --stop $'\n\n' > answer.txt)";

struct GenerateFlags {
  std::string model;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string dtype, cache_type;
  std::vector<ChosenAdapter> adapters;
  GenerationOptions generation;
  DeviceOptions device;
  RoutingSwitches switches;
  std::string prompts_file;
  int64_t logprobs = -1;  // -1: not wanted
  int64_t samples = 1;
  int64_t memory_limit = 0;
  ExpertPlaceFlags experts;
  InferenceRanksFlags ranks;
  bool batch_invariant = false;
  bool dry_run = false;
  bool echo = false;
  bool parse_special = false;
  bool quiet = false;

  bool writes_lines() const { return !prompts_file.empty() || logprobs >= 0 || samples > 1; }
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
      return "the context is full (max_position_embeddings, or --context)";
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
  if (speed.drafted_tokens == 0) return;
  log_info("prompt lookup: {} of {} guessed tokens were right; {:.2f} s {} than without", speed.accepted_tokens,
           speed.drafted_tokens, std::abs(speed.saved_seconds), speed.saved_seconds < 0 ? "more" : "less");
}

LineDefaults line_defaults(const GenerateFlags& flags, const GenerationOptions& options) {
  return {.options = options,
          .logprobs = flags.logprobs < 0 ? std::nullopt : std::optional(flags.logprobs),
          .echo = flags.echo,
          .parse_special = flags.parse_special,
          .samples = flags.samples};
}

std::vector<LineRequest> read_lines(const GenerateFlags& flags, const std::string& prompt, const LineDefaults& defaults,
                                    const Tokenizer& tokenizer, const ModelConfig& config) {
  if (!flags.writes_lines()) return {};
  if (flags.prompts_file.empty()) return sample_lines(prompt, defaults, tokenizer, config);
  return read_prompt_lines(flags.prompts_file, defaults, tokenizer, config);
}

/// What one sequence with a context of the options needs beside the weights. `records`: Device::records().
int64_t bytes_of_dry_run(const HeldModel& held, const PassTypes& types, const GenerationOptions& options,
                         bool records) {
  const int64_t tokens = options.context > 0 ? options.context : options.max_new_tokens + 1;
  return engine_bytes_for(held, types, {options.tokens_per_pass, records}, tokens);
}

/// What one sequence needs beside the weights: the prompt, or the longest line. `records`: Device::records().
int64_t bytes_beside_weights(const HeldModel& held, const PassTypes& types, const Prompt& prompt,
                             const std::vector<LineRequest>& lines, const GenerationOptions& options, bool records) {
  if (lines.empty()) return generation_bytes(held, types, {prompt}, options, records);
  std::vector<Request> requests;
  for (const LineRequest& line : lines) requests.push_back(line.request);
  return Engine::bytes(held, types, engine_sizes(held.config, requests, 1, options.tokens_per_pass, records));
}

/// With a limit: refuses what needs more than it leaves beside the weights, which is `free` bytes.
void check_memory(const ModelOnDevice& runtime, const Prompt& prompt, const GenerationOptions& options, int64_t limit,
                  int64_t free) {
  const int64_t needed = most_bytes_of_ranks(runtime.model.held(), [&](const HeldModel& held) {
    return generation_bytes(held, runtime.types(), {prompt}, options, runtime.device.records());
  });
  if (limit == 0 || needed <= free) return;
  fail(
      "the cache and a pass need {} beside the weights, and --memory-limit leaves {}; shorten the prompt, allow fewer "
      "new tokens, or give a higher limit",
      bytes_text(needed), bytes_text(free));
}

void say_start(const GenerateFlags& flags, const ModelConfig& config, const Tokenizer& tokenizer,
               const std::string& weights, const std::string& device, const WeightsSize& size) {
  log_info("{}: {:.1f} M parameters, {}, {} tokens in the vocabulary; weights: {} on {}", flags.model,
           1e-6 * static_cast<double>(count_elements(parameter_table(config))),
           counted(config.num_hidden_layers, "layer"), tokenizer.id_count(), weights, device);
  if (size.host_bytes > 0) log_info("{}", expert_place_text(size));
  if (const std::string note = generation_note(config); !note.empty()) log_info("{}", note);
}

void generate_text(const GenerateFlags& flags, ProcessRanks& processes) {
  validate(flags.generation);
  const DeviceOptions device = processes.part_of(flags.device);
  check_inference_ranks(processes, flags.ranks, flags.experts, device);
  const bool reads = processes.rank() == 0 && !flags.dry_run;
  const std::string text = reads && flags.prompts_file.empty() ? prompt_text(flags) : "";
  const WeightTypes weights = parse_kept_weights(flags.dtype, device);
  // All that was written is flushed, so leaving at once loses nothing, even in the middle of a long prompt's pass.
  ProcessRanks::end_all_on_signals();
  Compute compute = make_compute(device);
  InferenceRanks ranks(processes, compute);
  const AdaptedModel model = adapted_model(flags.model, flags.adapters);
  const WeightSizes sizes(model.folder, weights, model.adapters);
  const WeightsSize whole = sizes.of();
  const ModelConfig& config = sizes.config();
  check_generates(config);
  ranks.divide(config, flags.model, flags.ranks, flags.batch_invariant);
  const Tokenizer tokenizer = Tokenizer::load(model.companions);
  GenerationOptions options = flags.generation;
  options.end_ids = end_tokens(model);
  if (compute.kind == DeviceKind::cuda) options.tokens_per_pass = kGpuTokensPerPass;
  const int64_t free = ranks.free_bytes(flags.memory_limit);
  const LineDefaults defaults = line_defaults(flags, options);
  const std::vector<LineRequest> lines =
      reads ? read_lines(flags, text, defaults, tokenizer, config) : std::vector<LineRequest>{};
  Prompt prompt;
  if (reads && lines.empty()) prompt.ids = encode_prompt(tokenizer, config, text, flags.parse_special);
  const PassTypes types{whole.activations,
                        parse_cache_option(flags.cache_type, compute, whole.activations, whole.in_blocks)};
  if (flags.dry_run) {
    if (!ranks.leads()) return;
    const auto largest = ranks.largest(sizes, [&](const HeldModel& held) {
      return bytes_of_dry_run(held, types, options, compute.device->records());
    });
    const EnginePasses passes{options.tokens_per_pass, compute.device->records()};
    const WeightsSize size = ranks.size() > 1 ? largest.sizes.of()
                                              : placed_weights_size(sizes, model.folder, flags.experts, *compute.device,
                                                                    free, largest.beside);
    return print_generation_plan(largest.sizes.held(), size, types, passes, free, sizes);
  }
  WeightsSize size = whole;
  if (ranks.leads()) {  // before the others are started
    const auto largest = ranks.largest(sizes, [&](const HeldModel& held) {
      return bytes_beside_weights(held, types, prompt, lines, options, compute.device->records());
    });
    size = ranks.placed(largest, model.folder, flags.experts, free);
    check_memory_limit(flags.memory_limit, size, 0, free);
  }
  ranks.connect(model.folder, whole.text);
  show_status("reading the weights of " + flags.model);
  const ExpertPlace place(compute, size);
  LoadedModel loaded(model.folder, weights, place.device(), flags.switches, model.adapters, place.host_experts(),
                     ranks.part(config));
  if (!ranks.leads()) return ranks.follow(loaded, types.cache);
  clear_status();
  if (!flags.quiet) say_start(flags, config, tokenizer, loaded.weights(), ranks.device_text(), size);
  const ModelOnDevice runtime{loaded.model(),  loaded.dtype(), place.device(),
                              place.backend(), types.cache,    ranks.leader()};
  const int64_t left = ranks.free_bytes(flags.memory_limit);
  if (!lines.empty()) {
    const int64_t failed = answer_lines(runtime, tokenizer, lines, defaults, left, flags.quiet);
    ranks.end();
    if (failed > 0) fail("{} of {} failed; their lines say why", failed, counted(lines.size(), "request"));
    return;
  }
  check_memory(runtime, prompt, options, flags.memory_limit, left);
  const auto show = [](std::string_view piece) {
    clear_status();
    print_text(piece);
    flush_output();
  };
  GenerationSpeed speed;
  if (flags.echo) show(text);
  if (!flags.quiet) options.progress = show_progress;
  const Continuation result = generate(runtime, tokenizer, prompt, options, show, &speed);
  ranks.end();
  if (!flags.quiet) report(result, speed);
}

constexpr int64_t kMostSamples = 1 << 16, kMostLogprobs = 1 << 20;

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
  const auto take_file = [flags](const std::string& path) { flags->prompts_file = path; };
  command
      ->add_option_function<std::string>("--prompts", take_file,
                                         "answer every line of this file, as JSON lines; -: read standard input")
      ->type_name("FILE.jsonl")
      ->excludes(prompt)
      ->excludes("--prompt-file");
  add_number(*command, "--samples", flags->samples, {1, kMostSamples}, "continue each prompt so many times");
  add_number(*command, "--logprobs", flags->logprobs, {0, kMostLogprobs},
             "write each token's log-probability, and those of the K most likely tokens (0: none)", false);
  command->add_flag("--echo", flags->echo,
                    "write the prompt before its continuation; in JSON with its ids, and with --logprobs their own");
  command->add_flag(
      "--parse-special", flags->parse_special,
      "special tokens in the text become their ids, as chat templates write them (default: ordinary text)");
  add_sampling_options(*command, flags->generation);
  add_batch_invariant_option(*command, flags->batch_invariant);
  add_lora_option(*command, flags->adapters);
  add_kept_weights_option(*command, flags->dtype);
  add_cache_option(*command, flags->cache_type);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  add_expert_place_options(*command, flags->experts);
  add_inference_ranks_options(*command, flags->ranks);
  add_memory_option(*command, flags->memory_limit);
  command->add_flag("--dry-run", flags->dry_run,
                    "print what the weights and the cache need and the context that fits; load nothing");
  command->add_flag("--quiet", flags->quiet, "print only errors on standard error");
  command->callback([flags] {
    ProcessRanks processes(flags->ranks.ranks, kInferenceRanks);
    exit_with(processes.run([&] {
      generate_text(*flags, processes);
      return 0;
    }));
  });
}

}  // namespace moe
