#include <algorithm>
#include <memory>
#include <optional>

#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/lora_option.h"
#include "cli/model_folder.h"
#include "cli/routing_option.h"
#include "cli/weights_option.h"
#include "eval/routing_report.h"
#include "eval/text_documents.h"
#include "eval/token_trace.h"
#include "infer/loaded_model.h"
#include "report/page.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Prints for every token of a text, layer by layer, the experts that it chose and their gates, the largest gate first. On a
terminal each expert has a colour, and the text comes first, each token in the colour of its largest gate.

The text is read as `moe eval loss` reads a document: BOS, the text, EOS. Choices are counted before any is dropped by a
capacity, so the counts are those of `moe eval loss --analyse` on the same text.

--html writes a page for a browser, which needs no network. --json writes
{"experts": E, "tokens": [{"id", "text", "loss"}], "layers": [{"layer", "counts", "tokens": [[[expert, gate], ...], ...]}]}

Examples:
  moe trace runs/demo --prompt 'And it came to pass'
  moe trace runs/demo --prompt-file page.txt --html trace.html
  moe trace runs/demo --prompt 'def read(self):' --layer 1 --mask-experts 1:16)";

struct TraceFlags {
  std::string model;
  std::optional<std::string> prompt;
  std::string prompt_file, html, json, dtype;
  std::vector<int64_t> layers;
  std::vector<ChosenAdapter> adapters;
  DeviceOptions device;
  RoutingSwitches switches;
};

std::string text_of(const TraceFlags& flags) {
  if (!flags.prompt && flags.prompt_file.empty())
    fail_usage("there is no text: give --prompt TEXT or --prompt-file FILE");
  const std::string text = flags.prompt ? *flags.prompt : read_file(flags.prompt_file);
  if (text.empty()) fail_usage("the text is empty; give at least one character");
  return text;
}

void check_layers(const TraceFlags& flags, const ModelConfig& config) {
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  for (const int64_t layer : flags.layers) {
    if (std::find(numbers.begin(), numbers.end(), layer) != numbers.end()) continue;
    fail_usage("--layer {}: {} has routed experts in the layers {}", layer, flags.model, fmt::join(numbers, ", "));
  }
}

void trace(const TraceFlags& flags) {
  const std::string text = text_of(flags);
  const WeightTypes weights = parse_kept_weights(flags.dtype, flags.device);
  if (!flags.html.empty()) check_output_file(flags.html);
  if (!flags.json.empty() && flags.json != "-") check_output_file(flags.json);
  const AdaptedModel adapted = adapted_model(flags.model, flags.adapters);
  check_layers(flags, read_model_config(adapted.folder));
  Compute compute = make_compute(flags.device);
  const LoadedModel model(adapted.folder, weights, *compute.device, flags.switches, adapted.adapters);
  const ModelConfig& config = model.config();
  const Tokenizer tokenizer = load_model_tokenizer(adapted.companions, config.vocab_size);
  const TokenTrace found =
      trace_tokens({model.model(), model.dtype(), *compute.device, *compute.backend}, document_ids(tokenizer, text));
  Json json = trace_json(found, config, tokenizer);
  if (!flags.json.empty() && flags.json != "-") write_file(flags.json, json_text(json, 1) + "\n");
  if (!flags.html.empty()) {
    Json shown = json;
    shown["model"] = flags.model;
    write_file(flags.html, html_page(Page::trace, "Experts of a text: " + flags.model, shown));
    log_info("{} shows the experts of {} tokens; open it in a browser", flags.html, found.tokens());
  }
  if (flags.json == "-") return print_text(json_text(json, 1) + "\n");
  const bool colours = ::isatty(STDOUT_FILENO) == 1;
  const std::string table = trace_text(found, config, tokenizer, flags.layers, colours);
  // Tokens are readable text already (eval/token_text.h), and the only escapes are our own colours.
  if (colours) return write_output(table);
  print_text(table);
}

}  // namespace

void add_trace_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("trace", "Shows which experts every token of a text chose, with gates");
  auto flags = std::make_shared<TraceFlags>();
  command->footer(kHelp);
  add_model_option(*command, flags->model, "Hugging Face model folder with its tokenizer")->required();
  CLI::Option* prompt = command->add_option("--prompt", flags->prompt, "the text")->type_name("TEXT");
  command->add_option("--prompt-file", flags->prompt_file, "a file with the text")->type_name("FILE")->excludes(prompt);
  command->add_option("--layer", flags->layers, "print this layer only (default: all); may be repeated")
      ->type_name("LAYER")
      ->allow_extra_args(false);
  command->add_option("--html", flags->html, "also write a page for a browser")->type_name("FILE");
  command->add_option("--json", flags->json, "also write everything to this file; -: to standard output, alone")
      ->type_name("FILE");
  add_lora_option(*command, flags->adapters);
  add_kept_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  command->callback([flags] { trace(*flags); });
}

}  // namespace moe
