#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "checkpoint/open_model.h"
#include "cli/batch_invariant_option.h"
#include "cli/cache_option.h"
#include "cli/chat_history.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/exit_status.h"
#include "cli/expert_place.h"
#include "cli/generation_plan.h"
#include "cli/inference_ranks.h"
#include "cli/lora_option.h"
#include "cli/memory_option.h"
#include "cli/model_folder.h"
#include "cli/routing_option.h"
#include "cli/sampling_option.h"
#include "cli/weights_option.h"
#include "infer/generate.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Talks with the model in MODEL_DIR: you write a message, the model answers, and so on. Messages become text by the
model's own chat template. A model of the DeepSeekMoE family without one gets that family's format; any other model
without one continues "User: ...", "Assistant:". A line that begins with a slash is a command: /help lists them.
/experts shows which experts gave an answer; /mask, /boost and /experts-per-token change the routing and answer again.

On a terminal, lines can be edited, the arrow keys bring back earlier messages, Ctrl-C stops an answer, and Ctrl-D ends
the chat. Earlier messages are kept in $XDG_STATE_HOME/moe/chat_history (~/.local/state/moe/chat_history), which only
you can read. If standard input is a pipe or a file, each of its lines is a message or a command, and answers go to
standard output, with a line end behind each; the exit status is 1 if a line failed. docs/chat.md has more.

Examples:
  moe chat runs/demo
  moe chat runs/demo --system 'You answer in one sentence.' --temperature 0.7 --top-p 0.95
  moe chat runs/demo --lora runs/polite
  moe chat deepseek-moe-16b-chat.Q4_0.gguf --context 2048
  moe chat deepseek-moe-16b-chat.Q8_0.gguf --n-cpu-moe 12
  moe chat deepseek-moe-16b-chat --ranks 2      two processes with a GPU each divide the routed experts
  moe chat deepseek-moe-16b-chat --ranks 2 --expert-parallel 1      they divide the layers
  printf 'Hello\n/experts\n' | moe chat runs/demo --temperature 0)";

/// The memory of the cache grows with the context, so a model with very many positions gets fewer.
constexpr int64_t kUsualContext = 8192;

struct ChatFlags {
  std::string model;
  std::string dtype = {};  ///< empty: the blocks of a file stay
  std::string cache_type = {};
  std::vector<ChosenAdapter> adapters = {};
  std::string system;
  GenerationOptions generation = {.max_new_tokens = 512, .context = kUsualContext};
  DeviceOptions device;
  ExpertPlaceFlags experts;
  InferenceRanksFlags ranks;
  bool batch_invariant = false;
  int64_t memory_limit = 0;
  RoutingSwitches switches;
  bool no_history = false;
  bool show_prompt = false;
  bool quiet = false;
};

int64_t context_of(const ChatFlags& flags, const ModelConfig& config) {
  const int64_t positions = config.max_position_embeddings;
  return flags.generation.context > 0 ? std::min(flags.generation.context, positions) : positions;
}

void say_start(const ChatFlags& flags, const ModelConfig& config, const ChatFormat& format, const std::string& device,
               const std::string& weights, int64_t context, bool person) {
  log_info("{}: {:.1f} M parameters, {}, weights: {} on {}; a context of {}", flags.model,
           1e-6 * static_cast<double>(count_elements(parameter_table(config))),
           counted(config.num_hidden_layers, "layer"), weights, device, counted(context, "token"));
  if (const std::string note = generation_note(config); !note.empty()) log_info("{}", note);
  if (!format.note().empty()) log_info("{}", format.note());
  if (person) log_info("Write a message. /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.");
}

/// The exit status.
int chat(const ChatFlags& flags, ProcessRanks& processes) {
  validate(flags.generation);
  const DeviceOptions device = processes.part_of(flags.device);
  check_inference_ranks(processes, flags.ranks, flags.experts, device);
  const WeightTypes weights = parse_kept_weights(flags.dtype, device);
  Compute compute = make_compute(device);
  InferenceRanks ranks(processes, compute);
  const AdaptedModel model = adapted_model(flags.model, flags.adapters);
  const WeightSizes sizes(model.folder, weights, model.adapters);
  const WeightsSize whole = sizes.of();
  const ModelConfig& config = sizes.config();
  check_generates(config);
  ranks.divide(config, flags.model, flags.ranks, flags.batch_invariant);
  const int64_t context = context_of(flags, config);
  const Tokenizer tokenizer = load_model_tokenizer(model.companions, config.vocab_size);
  const ChatFormat format(model.companions, tokenizer);
  const int64_t free = ranks.free_bytes(flags.memory_limit);
  const PassTypes types{whole.activations,
                        parse_cache_option(flags.cache_type, compute, whole.activations, whole.in_blocks)};
  ChatSizes chat_sizes{.most_tokens = context};
  if (compute.kind == DeviceKind::cuda) chat_sizes.tokens_per_pass = kGpuTokensPerPass;
  const auto largest = ranks.largest(sizes, [&](const HeldModel& held) {
    return ChatEngine::bytes(held, types, chat_sizes, compute.device->records());
  });
  const WeightsSize size = ranks.placed(largest, model.folder, flags.experts, free);
  check_memory_limit(flags.memory_limit, size, largest.beside, free);
  ranks.connect(model.folder, whole.text);
  show_status("reading the weights of " + flags.model);
  const ExpertPlace place(compute, size);
  LoadedModel loaded(model.folder, weights, place.device(), flags.switches, model.adapters, place.host_experts(),
                     ranks.part(config));
  if (!ranks.leads()) return ranks.follow(loaded, types.cache), 0;
  ChatEngine engine(loaded, &tokenizer, place.device(), place.backend(), chat_sizes, flags.switches, types.cache,
                    ranks.leader());
  clear_status();
  GenerationOptions options = flags.generation;
  options.end_ids = end_tokens(model);
  Conversation conversation(format, engine, options);
  if (!flags.system.empty()) conversation.set_system(flags.system);

  const bool person = ::isatty(STDIN_FILENO) == 1 && stderr_is_terminal();
  if (!flags.quiet) {
    say_start(flags, config, format, ranks.device_text(), loaded.weights(), context, person);
    if (size.host_bytes > 0) log_info("{}", expert_place_text(size));
  }
  std::optional<Interrupts> interrupts;
  if (person) interrupts.emplace();
  const ChatOutput output{.quiet = flags.quiet, .show_prompt = flags.show_prompt, .progress = person && !flags.quiet};
  ChatSession session(conversation, output, [&] { return interrupts && interrupts->pending(); });
  const auto input =
      person ? terminal_input(*interrupts, flags.no_history ? fs::path() : default_chat_history(), chat_command_names())
             : plain_input();
  const bool all_done = session.run(*input);
  ranks.end();
  return all_done || person ? 0 : 1;
}

}  // namespace

void add_chat_command(CLI::App& app) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "Talks with a model");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "folder with config.json, model.safetensors and tokenizer files")
      ->required();
  command->add_option("--system", flags->system, "the system message, which comes before the conversation")
      ->type_name("TEXT");
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
  command->add_flag("--show-prompt", flags->show_prompt, "print the text and the token ids of every prompt");
  command->add_flag("--no-history", flags->no_history, "neither read nor keep the messages that are typed");
  command->add_flag("--quiet", flags->quiet, "print only answers, what commands show, and errors");
  command->callback([flags] {
    ProcessRanks processes(flags->ranks.ranks, kInferenceRanks);
    exit_with(processes.run([&] { return chat(*flags, processes); }));
  });
}

}  // namespace moe
