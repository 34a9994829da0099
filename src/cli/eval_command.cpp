#include <cstdio>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/routing_option.h"
#include "cli/text_sources.h"
#include "eval/report.h"
#include "eval/routing_report.h"
#include "eval/text_documents.h"

namespace moe {
namespace {

constexpr const char* kLossHelp =
    R"(Prints, per domain and in all: cross-entropy in nats per token, perplexity, bits per byte of text, and
which experts took which domain. Each text is BOS, its tokens and EOS, as in training; EOS is predicted
and counted too. A text longer than a row is cut, and what is behind the cut no longer sees what was
before it. After "±": half the width of a 95% interval, the documents taken as a random sample of their kind.

A FILE's domain is its name without endings, or its folder's name where the file is called train, valid,
validation, test, dev or eval. The result does not depend on --batch-rows or --threads.

Examples:
  moe eval loss runs/demo/latest text/*/valid.jsonl.zst
  moe eval loss runs/demo/latest --domain prose=book.txt --json scores.json)";

struct LossFlags {
  std::string model;
  TextSourceOptions sources;
  int64_t batch_rows = 4;
  int64_t sequence_length = 0;
  std::string json;
  std::string dtype = "f32";
  DeviceOptions device;
  RoutingSwitches switches;
};

int64_t row_length(const LossFlags& flags, const ModelConfig& config) {
  if (flags.sequence_length == 0) return config.max_position_embeddings;
  if (flags.sequence_length > config.max_position_embeddings) {
    fail_usage("--sequence-length {}: {} has max_position_embeddings {}; use at most that", flags.sequence_length,
               flags.model, config.max_position_embeddings);
  }
  return flags.sequence_length;
}

EvaluationResult measure(const LossFlags& flags, const LoadedModel& model, Compute& compute, Json& about) {
  const Tokenizer tokenizer = Tokenizer::load(flags.model);
  if (tokenizer.id_count() > model.config().vocab_size) {
    fail("the tokenizer in {} has {} ids, but the model's vocab_size is {}; they do not belong together", flags.model,
         tokenizer.id_count(), model.config().vocab_size);
  }
  const MemoryDocuments documents = load_documents(text_sources(flags.sources), tokenizer, compute.pool);
  const Runtime runtime{
      .model = model.model(), .dtype = model.dtype(), .device = *compute.device, .backend = *compute.backend};
  const EvaluationOptions options{
      .sequence_length = row_length(flags, model.config()),
      .batch_rows = flags.batch_rows,
      .progress = [](int64_t done, int64_t all) { show_status(fmt::format("evaluating: {} of {} rows", done, all)); }};
  about = {{"model", flags.model}, {"dtype", flags.dtype}, {"sequence_length", options.sequence_length}};
  if (flags.switches.any()) about["switches"] = switches_json(model.config(), flags.switches);
  EvaluationResult result = evaluate(runtime, documents, options);
  clear_status();
  return result;
}

void print_loss(const LossFlags& flags) {
  text_sources(flags.sources);  // refused before anything is loaded
  Compute compute = make_compute(flags.device);
  const LoadedModel model(flags.model, parse_dtype_option(flags.dtype), *compute.device, flags.switches);
  Json json;
  const EvaluationResult result = measure(flags, model, compute, json);
  json.update(evaluation_json(result, model.config()));
  const std::string text = json.dump(2) + "\n";
  if (flags.json == "-") {
    fmt::print("{}", text);
  } else {
    if (!flags.json.empty()) write_file(flags.json, text);
    const std::string routing = routing_text(result, model.config());
    fmt::print("{}{}{}", score_table(result), routing.empty() ? "" : "\n", routing);
  }
  if (std::fflush(stdout) != 0) fail("standard output could not be written");
}

void add_loss(CLI::App& parent) {
  auto flags = std::make_shared<LossFlags>();
  CLI::App* command = parent.add_subcommand("loss", "Cross-entropy, perplexity and bits per byte of text files");
  command->footer(kLossHelp);
  command->add_option("MODEL_DIR", flags->model, "Hugging Face model folder with its tokenizer")
      ->required()
      ->type_name("");
  add_text_source_options(*command, flags->sources);
  command->add_option("--batch-rows", flags->batch_rows, "rows computed together")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--sequence-length", flags->sequence_length, "tokens per row (default: max_position_embeddings)")
      ->check(CLI::Range(1, 1 << 30));
  command
      ->add_option("--json", flags->json,
                   "also write everything, the load of every expert by layer and domain included, to this file; "
                   "-: to standard output, instead of the tables")
      ->type_name("FILE");
  add_dtype_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  add_routing_options(*command, flags->switches);
  command->callback([flags] { print_loss(*flags); });
}

}  // namespace

void add_eval_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "Measures how well a model predicts text");
  command->require_subcommand(1);
  add_loss(*command);
}

}  // namespace moe
