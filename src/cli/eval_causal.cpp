#include "cli/eval_causal.h"

#include <algorithm>
#include <exception>
#include <memory>

#include "base/activity.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "checkpoint/open_model.h"
#include "cli/device_option.h"
#include "cli/evaluated_text.h"
#include "cli/expert_place.h"
#include "cli/lora_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/routing_option.h"
#include "cli/weights_option.h"
#include "eval/causal_report.h"
#include "eval/domain_starts.h"
#include "train/progress.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Masks every routed expert in turn and prints how much the loss of a text rises without it, beside the expert's load. A
large load alone does not say that an expert matters: if the next expert does the same work as well, the loss stays.

A masked expert is passed over by all tokens. The next expert in a token's order takes its place, with the gate that the
routing method gives it. The line "shared" is the loss without the shared experts of the layer, all of them together; nothing
takes their place. Experts are sorted, the largest change first. Columns:
  load       the share of the tokens that chose the expert; a layer's loads add up to the experts of a token
  gate       the mean gate of these tokens
  all text   the change of the loss in nats per token, masked - unmasked, with half of a 95% interval over documents,
             as in `moe compare`; then the same for each domain

FILEs are read as by `moe eval loss`. Of their documents the beginnings are used, --tokens tokens in all: equally many of each
domain, and up to a row (--sequence-length) of as many documents as that takes, or more if all documents are used. More
tokens take longer and give narrower intervals. The losses are those of `moe eval loss` with --mask-experts on such documents.

--json writes everything, for programs and for `moe report`, which shows the file causal.json in a run's folder. --csv writes a
line for each layer, expert and domain.

Examples:
  moe eval causal runs/demo text/*/valid.jsonl
  moe eval causal runs/demo text/*/valid.jsonl --json runs/demo/causal.json
  moe eval causal runs/demo book.txt --layer 1 --tokens 100000 --csv causal.csv)";

struct CausalFlags {
  std::string model;
  TextSourceOptions sources;
  int64_t tokens = 32768;
  std::vector<int64_t> layers;
  int64_t batch_rows = 4;
  int64_t sequence_length = 0;
  std::string json, csv, dtype;
  std::vector<ChosenAdapter> adapters;
  DeviceOptions device;
  RoutingSwitches switches;
  ExpertPlaceFlags experts;
};

void check_outputs(const CausalFlags& flags) {
  for (const std::string& file : {flags.json, flags.csv}) {
    if (!file.empty() && file != "-") check_output_file(file);
  }
  if (flags.json == "-" && flags.csv == "-") {
    fail_usage("--csv - and --json -: standard output can have one of them");
  }
}

CausalEffects measure_with_status(const LoadedModel& model, const ExpertPlace& place, const Documents& documents,
                                  CausalOptions options) {
  const double started = steady_seconds();
  options.progress = [&](int64_t done, int64_t all) {
    const double left = (steady_seconds() - started) * static_cast<double>(all - done) / static_cast<double>(done);
    show_status(fmt::format("masking experts: {:.0f}% done, {} left",
                            100 * static_cast<double>(done) / static_cast<double>(all), duration_text(left)));
  };
  const Activity activity(fmt::format("masking experts, --batch-rows {} at once", options.batch_rows));
  CausalEffects effects = measure_causal(model, place.device(), place.backend(), documents, options);
  clear_status();
  return effects;
}

/// Writes the files and the tables. If one of them cannot be written, the others are.
void write_results(const CausalFlags& flags, const CausalTable& table, const Json& about) {
  Json json = about;
  json.update(causal_json(table));
  const std::string as_json = json_text(json, 1) + "\n", as_csv = rows_as_csv(causal_rows(table));
  std::exception_ptr failure;
  for (const auto& [file, text] : {std::pair{flags.json, as_json}, {flags.csv, as_csv}}) {
    if (file.empty() || file == "-") continue;
    try {
      write_file(file, text);
    } catch (const Error&) {
      if (!failure) failure = std::current_exception();
    }
  }
  print_text(flags.json == "-" ? as_json : flags.csv == "-" ? as_csv : causal_text(table));
  flush_output();
  if (failure) std::rethrow_exception(failure);
}

void print_causal(const CausalFlags& flags) {
  check_outputs(flags);
  EvaluatedText text(flags.sources);  // what cannot be read is refused before anything is loaded
  const AdaptedModel adapted = adapted_model(flags.model, flags.adapters);
  const ModelConfig own = read_model_config(adapted.folder);
  CausalOptions options{.sequence_length = evaluated_row(flags.sequence_length, flags.model, own),
                        .batch_rows = flags.batch_rows,
                        .layers = flags.layers,
                        .switches = flags.switches};
  check_causal(flags.model, own, options);
  const WeightTypes weights = parse_kept_weights(flags.dtype, flags.device);
  Compute compute = make_compute(flags.device);
  const Tokenizer tokenizer = load_model_tokenizer(adapted.companions, own.vocab_size);
  const DomainStarts documents(text.documents(adapted.folder, own, tokenizer, compute.pool), flags.tokens,
                               options.sequence_length);
  check_predicts(documents);
  options.sequence_length = std::min(options.sequence_length, documents.tokens());
  show_status("reading the weights of " + flags.model);
  const WeightsSize size = placed_weights_size(WeightSizes(adapted.folder, weights, adapted.adapters), adapted.folder,
                                               flags.experts, *compute.device, -1, 0);
  const ExpertPlace place(compute, size);
  const LoadedModel model(adapted.folder, weights, place.device(), {}, adapted.adapters, place.host_experts());
  clear_status();
  log_info("{} on {}", flags.model, device_name(compute));
  log_info("weights: {}", model.weights());
  if (size.host_bytes > 0) log_info("{}", expert_place_text(size));
  const CausalEffects effects = measure_with_status(model, place, documents, options);
  Json about{{"model", flags.model}, {"weights", model.weights()}, {"sequence_length", options.sequence_length}};
  if (flags.switches.any()) about["switches"] = switches_json(switched(own, flags.switches), flags.switches);
  write_results(flags, causal_table(effects, documents, own), about);
}

}  // namespace

void add_eval_causal(CLI::App& parent) {
  auto flags = std::make_shared<CausalFlags>();
  CLI::App* command =
      parent.add_subcommand("causal", "The loss without each expert, beside its load: which experts matter");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "Hugging Face model folder with its tokenizer")->required();
  add_text_source_options(*command, flags->sources);
  add_number(*command, "--tokens", flags->tokens, WholeNumbers{.least = 2, .most = int64_t{1} << 40},
             "use so many tokens of the text");
  command->add_option("--layer", flags->layers, "mask the experts of this layer only (default: all); may be repeated")
      ->type_name("LAYER")
      ->allow_extra_args(false);
  add_number(*command, "--batch-rows", flags->batch_rows, {1, 1 << 20}, "rows computed together");
  add_number(*command, "--sequence-length", flags->sequence_length, {1, 1 << 30},
             "tokens per row (default: max_position_embeddings)", false);
  add_json_option(*command, flags->json,
                  "also write everything to this file; -: to standard output, instead of the tables");
  command
      ->add_option("--csv", flags->csv,
                   "also write a line for each layer, expert and domain to this file; -: to standard output, instead "
                   "of the tables")
      ->type_name("FILE");
  add_lora_option(*command, flags->adapters);
  add_kept_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  add_expert_place_options(*command, flags->experts);
  command->callback([flags] { print_causal(*flags); });
}

}  // namespace moe
