#include <exception>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/eval_causal.h"
#include "cli/eval_experts.h"
#include "cli/evaluated_text.h"
#include "cli/exit_status.h"
#include "cli/expert_place.h"
#include "cli/inference_ranks.h"
#include "cli/lora_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/routing_option.h"
#include "cli/weights_option.h"
#include "eval/choice_report.h"
#include "eval/document_losses.h"
#include "eval/report.h"
#include "eval/routing_report.h"
#include "eval/sweep.h"
#include "infer/scorer.h"
#include "train/ranks.h"
#include "train/training_log.h"

namespace moe {
namespace {

constexpr const char* kLossHelp =
    R"(Prints for each domain and for all text: cross-entropy in nats per token, perplexity, bits per byte of text,
and how each domain's tokens were distributed over the experts. Each text is BOS, its tokens and EOS, as in
training. EOS is predicted and counted too. A text longer than a row is cut; the part after the cut does not see
the part before it. The number after "±" is half the width of a 95% interval. It treats the documents as a random
sample of their kind.

The domain of a FILE is its name without endings. If the file is called train, valid, validation, test, dev or
eval, the domain is the name of its folder. The domain of a folder is the folder's name. FILEs are read as by
`moe data` (moe data --help). The result does not depend on --batch-rows or --threads.

Instead of FILEs, the folder of a dataset (moe data) can be given. Of conversations (moe data --chat) the loss is that
of the tokens that are learned: the answers.

--documents writes a line for each document: its domain, its index among all documents that were read, the tokens
that are predicted, the bytes that they stand for, and the sum of their cross-entropies in nats. `moe compare` reads
two such files.

--analyse adds two lists for each MoE layer. One has pairs of experts that the same tokens chose, beside the
number for independent choices. The other has, for each expert, the tokens that chose it in the largest share of
their occurrences. Choices are counted before any is dropped by a capacity. JSON has both under "choices".

--ranks N divides the routed experts, or the layers of a dense model, among N processes, each with a GPU or a part of
the processors, for a model that is larger than one GPU. With --expert-parallel E, groups of E ranks divide the layers,
and the ranks of a group the experts of these (docs/parallelism.md).

--sweep evaluates the same text again under each value of a switch, in addition to the other switches. It adds a
table of loss, its change and bits per byte (JSON: "sweep"). The switches are experts-per-token=N,N,...,
mask-best=N,N,... and drop-shared; the options with these names explain them. The option may be repeated.

Examples:
  moe eval loss runs/demo/latest text/*/valid.jsonl.zst
  moe eval loss runs/demo/latest --domain prose=book.txt --json scores.json
  moe eval loss runs/demo/latest book.txt --lora runs/books
  moe eval loss deepseek-moe-16b-base book.txt --ranks 2
  moe eval loss deepseek-moe-16b-base book.txt --ranks 4 --expert-parallel 1
  moe eval loss runs/demo/latest text/*/valid.jsonl.zst --documents demo.jsonl
  moe eval loss runs/demo/latest runs/data/chats/valid
  moe eval loss runs/demo/latest book.txt --analyse --top-tokens 20 --json choices.json
  moe eval loss runs/demo/latest book.txt --sweep experts-per-token=1,2,3 --sweep mask-best=1,2 --sweep drop-shared)";

struct LossFlags {
  std::string model;
  TextSourceOptions sources;
  int64_t batch_rows = 4;
  int64_t sequence_length = 0;
  std::string json;
  std::string documents;
  std::string dtype;
  std::vector<ChosenAdapter> adapters;
  DeviceOptions device;
  RoutingSwitches switches;
  ExpertPlaceFlags experts;
  InferenceRanksFlags ranks;
  bool analyse = false;
  int64_t top_tokens = 10;
  int64_t min_count = 10;
  std::vector<std::string> sweeps;
};

// The points of all sweeps. Refuses what does not fit the model, before any weight is read.
std::vector<SweepPoint> checked_sweep(const LossFlags& flags) {
  std::vector<SweepPoint> points;
  for (const std::string& sweep : flags.sweeps) {
    for (SweepPoint& point : parse_sweep(sweep, flags.switches)) points.push_back(std::move(point));
  }
  if (points.empty() && !flags.analyse) return points;
  const ModelConfig config = read_model_config(adapted_model(flags.model, flags.adapters).folder);
  if (flags.analyse && config.moe_layers() == 0) fail("--analyse: {} has no routed experts", flags.model);
  switched(config, flags.switches);
  check_sweep(config, points);
  return points;
}

struct Measured {
  ModelConfig config;
  std::string weights;  // their types and bytes
  EvaluationOptions options;
  EvaluationResult result;  // with the switches given
  std::vector<SweepResult> sweep;
};

Measured measure_all(const LossFlags& flags, LoadedModel& model, const Documents& documents, const ExpertPlace& place,
                     const std::vector<SweepPoint>& points) {
  Measured measured{.config = model.config(),
                    .weights = model.weights(),
                    .options = {.sequence_length = evaluated_row(flags.sequence_length, flags.model, model.config()),
                                .batch_rows = flags.batch_rows,
                                .count_choices = flags.analyse,
                                .min_count = flags.min_count,
                                .keep_documents = !flags.documents.empty()},
                    .result = {},
                    .sweep = {}};
  measured.result = evaluate_with_status(model, documents, place, measured.options, "");
  EvaluationOptions losses = measured.options;
  losses.count_choices = losses.keep_documents = false;
  for (const SweepPoint& point : points) {
    model.set_switches(point.switches);
    measured.sweep.push_back({point, evaluate_with_status(model, documents, place, losses, " with " + point.text())});
  }
  return measured;
}

Json to_json(const LossFlags& flags, const Measured& measured, const Tokenizer& tokenizer) {
  Json json{{"model", flags.model},
            {"dtype", flags.dtype.empty() ? "f32" : flags.dtype},
            {"weights", measured.weights},
            {"sequence_length", measured.options.sequence_length}};
  if (flags.switches.any()) json["switches"] = switches_json(measured.config, flags.switches);
  json.update(evaluation_json(measured.result, measured.config));
  if (flags.analyse) {
    json["choices"] = choice_json(measured.result.choices, measured.config, tokenizer, flags.top_tokens);
  }
  if (!measured.sweep.empty()) json["sweep"] = sweep_json(measured.sweep, measured.result);
  return json;
}

std::string to_text(const LossFlags& flags, const Measured& measured, const Tokenizer& tokenizer) {
  std::string text = score_table(measured.result);
  const auto add = [&](const std::string& part) { text += part.empty() ? "" : "\n" + part; };
  add(routing_text(measured.result, measured.config));
  if (flags.analyse) add(choice_text(measured.result.choices, measured.config, tokenizer));
  if (!measured.sweep.empty()) add(sweep_table(measured.sweep, measured.result));
  return text;
}

/// Writes the files and the tables. If one of them cannot be written, the others are.
void write_results(const LossFlags& flags, const Measured& measured, const Documents& documents,
                   const Tokenizer& tokenizer) {
  const std::string json = flags.json.empty() ? "" : json_text(to_json(flags, measured, tokenizer), 2) + "\n";
  std::exception_ptr failure;
  const auto write = [&](const std::string& file, const std::string& text) {
    try {
      write_file(file, text);
    } catch (const Error&) {
      if (!failure) failure = std::current_exception();
    }
  };
  if (!flags.json.empty() && flags.json != "-") write(flags.json, json);
  if (!flags.documents.empty()) {
    write(flags.documents, document_lines(document_losses(documents, measured.result.document_nats)));
  }
  print_text(flags.json == "-" ? json : to_text(flags, measured, tokenizer));
  flush_output();
  if (failure) std::rethrow_exception(failure);
}

/// The same on several ranks, which make the same passes and so find the same mistakes.
Measured measure_together(const LossFlags& flags, LoadedModel& model, const Documents& documents,
                          const ExpertPlace& place, const std::vector<SweepPoint>& points,
                          const InferenceRanks& ranks) {
  try {
    return measure_all(flags, model, documents, place, points);
  } catch (const NotFinite& error) {
    if (ranks.size() == 1) throw;
    throw SharedError(error.what());
  }
}

void print_loss(const LossFlags& flags, ProcessRanks& processes) {
  if (!flags.json.empty() && flags.json != "-") check_output_file(flags.json);
  if (!flags.documents.empty()) check_output_file(flags.documents);
  const DeviceOptions device = processes.part_of(flags.device);
  check_inference_ranks(processes, flags.ranks, flags.experts, device);
  EvaluatedText text(flags.sources);  // what cannot be read is refused before anything is loaded
  if (processes.size() > 1 && text.from_standard_input()) {
    fail_usage("--ranks {}: every rank reads the text, and standard input can be read once only; name a file",
               processes.size());
  }
  const std::vector<SweepPoint> points = checked_sweep(flags);
  const WeightTypes weights = parse_kept_weights(flags.dtype, device);
  Compute compute = make_compute(device);
  InferenceRanks ranks(processes, compute);
  const AdaptedModel adapted = adapted_model(flags.model, flags.adapters);
  const WeightSizes sizes(adapted.folder, weights, adapted.adapters);
  const std::string whole = sizes.of().text;
  ranks.divide(sizes.config(), flags.model, flags.ranks, false);
  const auto largest = ranks.largest(sizes, [](const HeldModel&) { return 0; });
  const WeightsSize size = ranks.placed(largest, adapted.folder, flags.experts, -1);
  const Tokenizer tokenizer = load_model_tokenizer(adapted.companions, sizes.config().vocab_size);
  const Documents& documents = text.documents(adapted.folder, sizes.config(), tokenizer, compute.pool);
  ranks.connect(adapted.folder, whole);
  show_status("reading the weights of " + flags.model);
  const ExpertPlace place(compute, size);
  LoadedModel model(adapted.folder, weights, place.device(), flags.switches, adapted.adapters, place.host_experts(),
                    ranks.part(sizes.config()));
  clear_status();
  log_info("{} on {}", flags.model, ranks.device_text());
  log_info("weights: {}", model.weights());
  if (size.host_bytes > 0) log_info("{}", expert_place_text(size));
  if (!model.config().causal()) {
    log_info(
        "experts choose among all tokens of a row, including later ones: this is not the loss of a language model");
  }
  const Measured measured = measure_together(flags, model, documents, place, points, ranks);
  if (ranks.leads()) write_results(flags, measured, documents, tokenizer);
}

void add_analysis_options(CLI::App& command, LossFlags& flags) {
  CLI::Option* analyse =
      command.add_flag("--analyse", flags.analyse,
                       "also list pairs of experts that the same tokens chose, and the tokens of each expert");
  add_number(command, "--top-tokens", flags.top_tokens, {1, 1 << 20}, "tokens listed per expert in JSON")
      ->needs(analyse);
  add_number(command, "--min-count", flags.min_count, {1, 1 << 30},
             "leave out tokens that occur less often in the text")
      ->needs(analyse);
  command
      .add_option("--sweep", flags.sweeps,
                  "also print the loss under each value of a switch: experts-per-token=N,N,..., mask-best=N,N,... or "
                  "drop-shared; may be repeated")
      ->type_name("SWITCH=N,N")
      ->allow_extra_args(false);
}

void add_loss(CLI::App& parent) {
  auto flags = std::make_shared<LossFlags>();
  CLI::App* command = parent.add_subcommand("loss", "Cross-entropy, perplexity and bits per byte of text files");
  command->footer(kLossHelp);
  add_model_option(*command, flags->model, "Hugging Face model folder with its tokenizer")->required();
  add_text_source_options(*command, flags->sources);
  add_number(*command, "--batch-rows", flags->batch_rows, {1, 1 << 20}, "rows computed together");
  add_number(*command, "--sequence-length", flags->sequence_length, {1, 1 << 30},
             "tokens per row (default: max_position_embeddings)", false);
  add_json_option(*command, flags->json,
                  "also write everything, with the load of every expert by layer and domain, to this file; "
                  "-: to standard output, instead of the tables");
  command
      ->add_option("--documents", flags->documents,
                   "also write the loss of every document to this file, a JSON object a line")
      ->check([](const std::string& name) {
        return std::string(name.empty() || name == "-" ? "expected the name of a file" : "");
      })
      ->type_name("FILE");
  add_lora_option(*command, flags->adapters);
  add_kept_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  add_expert_place_options(*command, flags->experts);
  add_inference_ranks_options(*command, flags->ranks);
  add_analysis_options(*command, *flags);
  command->callback([flags] {
    ProcessRanks processes(flags->ranks.ranks, kInferenceRanks);
    exit_with(processes.run([&] {
      print_loss(*flags, processes);
      return 0;
    }));
  });
}

}  // namespace

void add_eval_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("eval", "Measures how well a model predicts text, and which experts a text needs");
  command->require_subcommand(1);
  add_loss(*command);
  add_eval_experts(*command);
  add_eval_causal(*command);
}

}  // namespace moe
