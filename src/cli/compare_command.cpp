#include <memory>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "base/paths.h"
#include "checkpoint/model_path.h"
#include "checkpoint/open_model.h"
#include "cli/commands.h"
#include "cli/device_option.h"
#include "cli/evaluated_text.h"
#include "cli/lora_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/weights_option.h"
#include "eval/paired.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Evaluates two models on the same documents, and prints for each domain and for all text the bits per byte of both
and the difference B - A: below 0, B predicts the text better. The number after "±" is half the width of a 95% interval of the
difference. It is far narrower than the difference of two separate intervals, because a document that is hard for one model is
hard for the other. The documents count as a random sample of their kind; the interval says nothing about other
seeds of training. It is the jackknife's over documents, with Student's quantile.

A and B are model folders, runs, GGUF files, or folders of adapters, which mean their model with the adapter. Their tokenizers may
differ, because the difference is in bits per byte. FILEs are read as by `moe eval loss`; the folder of a dataset
needs models with its tokenizer. Both models read rows of the same length. A or B may also be a .jsonl file of
`moe eval loss --documents`; if both are, no FILE is needed.

Examples:
  moe compare runs/gshard runs/deepseekmoe text/*/valid.jsonl.zst
  moe compare runs/demo runs/tuned book.txt --json difference.json
  moe compare gshard.jsonl deepseekmoe.jsonl)";

struct CompareFlags {
  std::string a, b;
  TextSourceOptions sources;
  int64_t batch_rows = 4;
  int64_t sequence_length = 0;
  std::string json;
  std::string dtype;
  DeviceOptions device;
};

/// One of the two that are compared.
struct Side {
  std::string given;
  bool is_file = false;        ///< of losses, not a model
  AdaptedModel adapted = {};   ///< of a model
  DocumentLosses losses = {};  ///< of a file at once, of a model after its evaluation
  int64_t longest_row = 0;     ///< of a model
};

Side side_of(const std::string& given) {
  Side side{.given = given, .is_file = given.ends_with(".jsonl")};
  if (side.is_file) {
    side.losses = read_document_lines(given);
    return side;
  }
  side.adapted = adapted_model(model_folder(given), {});
  side.longest_row = read_model_config(side.adapted.folder).max_position_embeddings;
  return side;
}

/// Rows of the same length for both, so that both see as much of a long document.
int64_t common_row(const CompareFlags& flags, const Side& a, const Side& b) {
  int64_t row = flags.sequence_length;
  for (const Side* side : {&a, &b}) {
    if (side->is_file) continue;
    if (flags.sequence_length > side->longest_row) {
      fail_usage("--sequence-length {}: {} has max_position_embeddings {}; use at most that", flags.sequence_length,
                 side->given, side->longest_row);
    }
    if (flags.sequence_length == 0) row = row == 0 ? side->longest_row : std::min(row, side->longest_row);
  }
  return row;
}

void measure(Side& side, const CompareFlags& flags, EvaluatedText& text, int64_t row, Compute& compute) {
  const WeightTypes weights = parse_kept_weights(flags.dtype, flags.device);
  show_status("reading the weights of " + side.given);
  const WeightsSize size = placed_weights_size(WeightSizes(side.adapted.folder, weights, side.adapted.adapters),
                                               side.adapted.folder, {}, *compute.device, -1, 0);
  const ExpertPlace place(compute, size);
  const LoadedModel model(side.adapted.folder, weights, place.device(), {}, side.adapted.adapters,
                          place.host_experts());
  clear_status();
  log_info("{} on {}, weights: {}", side.given, device_name(compute), model.weights());
  if (!model.config().causal()) {
    log_info(
        "{}: experts choose among all tokens of a row, including later ones: this is not the loss of a language "
        "model",
        side.given);
  }
  const Tokenizer tokenizer = load_model_tokenizer(side.adapted.companions, model.config().vocab_size);
  const Documents& documents = text.documents(side.adapted.folder, model.config(), tokenizer, compute.pool);
  const EvaluationResult result = evaluate_with_status(
      model, documents, place, {.sequence_length = row, .batch_rows = flags.batch_rows, .keep_documents = true},
      " " + side.given);
  side.losses = document_losses(documents, result.document_nats);
}

void compare(const CompareFlags& flags) {
  if (!flags.json.empty() && flags.json != "-") check_output_file(flags.json);
  const bool has_text = !flags.sources.files.empty() || !flags.sources.labelled.empty();
  Side a = side_of(flags.a), b = side_of(flags.b);
  if (a.is_file && b.is_file && has_text) {
    fail_usage("{} and {} hold losses already, so that FILEs would not be read; leave them out", flags.a, flags.b);
  }
  if (!a.is_file || !b.is_file) {
    EvaluatedText text(flags.sources);
    if (!a.is_file && !b.is_file && text.from_standard_input()) {
      fail_usage("standard input (-) can be read once, but both models read the text; write it to a file first");
    }
    const int64_t row = common_row(flags, a, b);
    Compute compute = make_compute(flags.device);
    for (Side* side : {&a, &b}) {
      if (!side->is_file) measure(*side, flags, text, row, compute);
    }
  }
  const Comparison comparison = compare_documents(a.losses, b.losses, LossUnit::bits_per_byte, flags.a, flags.b);
  if (!flags.json.empty()) {
    Json json = {{"a", flags.a}, {"b", flags.b}, {"unit", "bits per byte"}};
    json.update(comparison_json(comparison));
    const std::string lines = json_text(json, 2) + "\n";
    if (flags.json == "-") return print_text(lines);
    write_file(flags.json, lines);
  }
  print_text(fmt::format("A: {}\nB: {}\n{}", flags.a, flags.b, comparison_table(comparison)));
  if (comparison.all.pairs < 10) {
    log_info("the intervals are uncertain: {} documents are few", comparison.all.pairs);
  }
}

}  // namespace

void add_compare_command(CLI::App& app) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* command = app.add_subcommand("compare", "The difference of two models on the same documents, paired");
  command->footer(kHelp);
  command->add_option("A", flags->a, "a model, a run, or a .jsonl file of `moe eval loss --documents`")->required();
  command->add_option("B", flags->b, "the other one")->required();
  add_text_source_options(*command, flags->sources);
  add_number(*command, "--batch-rows", flags->batch_rows, {1, 1 << 20}, "rows computed together");
  add_number(*command, "--sequence-length", flags->sequence_length, {1, 1 << 30},
             "tokens per row (default: the smaller max_position_embeddings)", false);
  add_json_option(*command, flags->json,
                  "also write the comparison to this file; -: to standard output, instead of the table");
  add_kept_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  command->callback([flags] { compare(*flags); });
}

}  // namespace moe
