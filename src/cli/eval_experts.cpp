#include "cli/eval_experts.h"

#include <memory>
#include <optional>

#include "base/activity.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/output_path.h"
#include "base/units.h"
#include "checkpoint/expert_list.h"
#include "checkpoint/open_model.h"
#include "cli/device_option.h"
#include "cli/model_folder.h"
#include "cli/number_option.h"
#include "cli/weights_option.h"
#include "data/shards.h"
#include "eval/expert_scores.h"
#include "eval/routing_report.h"
#include "infer/loaded_model.h"
#include "train/amounts.h"
#include "train/model_tokenizer.h"

namespace moe {
namespace {

constexpr const char* kHelp =
    R"(Finds the routed experts that DATASET needs, and writes their list (ESFT, Wang et al. 2024). `moe train` with
train.parameters = "experts" trains these experts alone. DATASET is a folder of `moe data`, mostly with --chat. Its
documents are shuffled by --seed, and the first --tokens tokens are read, prompts and answers alike.

For each MoE layer, an expert has a score. With --rule token it is its share of the choices that the tokens made. With
--rule gate it is the mean over the tokens of its gate, which is 0 for a token that did not choose it. Experts are taken
from the highest score down until their scores add up to --p; the one that reaches it is taken, too. Token scores add
up to 1. Gate scores do so only in a model that normalises its gates, so --p means something else there.

FILE has the form of the published expert_cfg.json: {"experts": {LAYER: [EXPERT, ...]}, "shared_experts": false,
"non_expert_modules": false}. Layers are counted from 0, dense ones too. Set one of the two switches to true to train
the shared experts, or everything outside the experts, as well.

Examples:
  moe eval experts runs/demo runs/data/sft/train --out experts.json
  moe eval experts runs/demo runs/data/sft/train --rule gate --p 0.1 --out experts.json --scores scores.json)";

constexpr double kDefaultP = 0.2, kDefaultGateP = 0.1;  // those of the paper

struct ExpertsFlags {
  std::string model, dataset, out, scores;
  std::string rule = "token";
  double p = 0;
  int64_t tokens = 131072;
  uint64_t seed = 5934875;  // the published program's
  int64_t sequence_length = 0;
  int64_t batch_rows = 4;
  std::string dtype;
  DeviceOptions device;
};

ExpertRule rule_of(const ExpertsFlags& flags) {
  return flags.rule == name(ExpertRule::gate) ? ExpertRule::gate : ExpertRule::token;
}

/// Refuses what cannot be scored, before any weight is read. Returns the length of a row.
int64_t checked_row_length(const ExpertsFlags& flags, const Dataset& dataset) {
  const ModelConfig config = read_model_config(flags.model);
  if (config.moe_layers() == 0) fail("{} has no routed experts, so there are none to choose", flags.model);
  const TokenizerMatch match = match_tokenizer(dataset, flags.model);
  if (dataset.info().vocab_size > config.vocab_size) {
    fail("{} has ids up to {}, but {} has a vocabulary of {}; make the dataset with the model's tokenizer",
         flags.dataset, dataset.info().vocab_size - 1, flags.model, config.vocab_size);
  }
  if (match == TokenizerMatch::grown || match == TokenizerMatch::other) {
    fail("{} was made with another tokenizer than that of {}; make it again with `moe data --tokenizer {}`",
         flags.dataset, flags.model, flags.model);
  }
  const int64_t most = config.max_position_embeddings;
  if (flags.sequence_length > most) {
    fail_usage("--sequence-length {}: {} has max_position_embeddings {}; use at most that", flags.sequence_length,
               flags.model, most);
  }
  return flags.sequence_length > 0 ? flags.sequence_length : most;
}

ExpertScores measure(const ExpertsFlags& flags, const Dataset& dataset, int64_t row_length) {
  const ShuffledStart documents(dataset, flags.seed, flags.tokens);
  const WeightTypes weights = parse_kept_weights(flags.dtype, flags.device);
  Compute compute = make_compute(flags.device);
  show_status("reading the weights of " + flags.model);
  const LoadedModel model(flags.model, weights, *compute.device, {});
  clear_status();
  log_info("{} on {}: {} of {}", flags.model, device_name(compute), counted(documents.tokens(), "token"),
           counted(documents.count(), "document"));
  const Activity activity(fmt::format("scoring the experts, --batch-rows {} at once", flags.batch_rows));
  ExpertScores scores = score_experts(
      {.model = model.model(), .dtype = model.dtype(), .device = *compute.device, .backend = *compute.backend},
      documents,
      {.sequence_length = row_length, .batch_rows = flags.batch_rows, .progress = [](int64_t done, int64_t all) {
         show_status(fmt::format("scoring the experts: {} of {} rows", done, all));
       }});
  clear_status();
  return scores;
}

double sum_of(std::span<const double> sums, const std::vector<int64_t>& chosen) {
  double sum = 0;
  for (const int64_t expert : chosen) sum += sums[static_cast<size_t>(expert)];
  return sum;
}

/// The part of the model's parameters that is in these experts.
std::string share_text(const ModelConfig& config, const ExpertList& list) {
  const int64_t trained = 3 * config.moe_intermediate_size * config.hidden_size * list.count();
  const int64_t all = count_elements(parameter_table(config));
  return fmt::format("{} of {} experts, {} of {} parameters ({:.1f}%)", list.count(),
                     config.moe_layers() * config.n_routed_experts, count_text(trained), count_text(all),
                     100 * static_cast<double>(trained) / static_cast<double>(all));
}

void print_choice(const ModelConfig& config, const ExpertScores& scores, const ExpertList& list, ExpertRule rule) {
  std::string text = fmt::format("{:>5} {:>8} {:>8} {:>10}  {}\n", "layer", "experts", "score", "all scores", "chosen");
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  for (int64_t layer = 0; layer < scores.layers; ++layer) {
    const std::vector<int64_t>& chosen = list.of_layer(numbers[static_cast<size_t>(layer)]);
    const auto sums = scores.sums(rule, layer);
    double all = 0;
    for (const double sum : sums) all += sum;
    const double total = scores.total(rule, layer);
    text += fmt::format("{:>5} {:>8} {:>8.3f} {:>10.3f}  {}\n", numbers[static_cast<size_t>(layer)], chosen.size(),
                        sum_of(sums, chosen) / total, all / total, fmt::join(chosen, " "));
  }
  print_text(text + share_text(config, list) + "\n");
}

std::string scores_text(const ModelConfig& config, const ExpertScores& scores) {
  Json layers = Json::array();
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  for (int64_t layer = 0; layer < scores.layers; ++layer) {
    Json entry{{"layer", numbers[static_cast<size_t>(layer)]}};
    for (const ExpertRule rule : {ExpertRule::token, ExpertRule::gate}) {
      Json values = Json::array();
      for (const double sum : scores.sums(rule, layer)) values.push_back(sum / scores.total(rule, layer));
      entry[name(rule)] = std::move(values);
    }
    layers.push_back(std::move(entry));
  }
  return json_text(Json{{"tokens", scores.tokens}, {"layers", layers}}, 2) + "\n";
}

bool same_output(const fs::path& a, const fs::path& b) {
  std::error_code absent;
  return fs::weakly_canonical(a, absent) == fs::weakly_canonical(b, absent) && !absent;
}

void choose(const ExpertsFlags& flags) {
  for (const std::string& file : {flags.out, flags.scores}) {
    if (!file.empty()) check_output_file(file);
  }
  if (same_output(flags.out, flags.scores)) {
    fail_usage("--scores {}: --out names the same file; give each a file of its own", flags.scores);
  }
  const Dataset dataset(flags.dataset);
  const int64_t row_length = checked_row_length(flags, dataset);
  const ModelConfig config = read_model_config(flags.model);
  const ExpertScores scores = measure(flags, dataset, row_length);
  const ExpertRule rule = rule_of(flags);
  const double p = flags.p > 0 ? flags.p : rule == ExpertRule::gate ? kDefaultGateP : kDefaultP;
  ExpertList list;
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  for (int64_t layer = 0; layer < scores.layers; ++layer) {
    list.experts[numbers[static_cast<size_t>(layer)]] =
        choose_experts(scores.sums(rule, layer), scores.total(rule, layer), p);
  }
  print_choice(config, scores, list, rule);  // first: a file that cannot be written loses nothing that was found
  flush_output();
  write_file(flags.out, expert_list_text(list));
  if (!flags.scores.empty()) write_file(flags.scores, scores_text(config, scores));
}

}  // namespace

void add_eval_experts(CLI::App& parent) {
  auto flags = std::make_shared<ExpertsFlags>();
  CLI::App* command = parent.add_subcommand("experts", "The routed experts that a dataset needs, to train them alone");
  command->footer(kHelp);
  add_model_option(*command, flags->model, "the model's folder")->required();
  command->add_option("DATASET", flags->dataset, "folder that `moe data` made with the model's tokenizer")
      ->required()
      ->type_name("");
  command->add_option("--out", flags->out, "the file to write: the list of experts")->required()->type_name("FILE");
  command
      ->add_option("--scores", flags->scores, "also write the scores of all experts by both rules to this file (JSON)")
      ->type_name("FILE");
  command->add_option("--rule", flags->rule, "what an expert's score is")
      ->check(CLI::IsMember({name(ExpertRule::token), name(ExpertRule::gate)}))
      ->capture_default_str();
  add_number(*command, "--p", flags->p, Numbers{.least = 0, .most = 1, .above = true},
             "the scores of a layer's experts add up to this (default: 0.2 for token, 0.1 for gate)", false);
  add_number(*command, "--tokens", flags->tokens, WholeNumbers{.least = 1, .most = int64_t{1} << 40},
             "read so many tokens of the dataset");
  add_seed(*command, "--seed", flags->seed, "of the order of the documents");
  add_number(*command, "--sequence-length", flags->sequence_length, {1, 1 << 30},
             "tokens per row (default: max_position_embeddings)", false);
  add_number(*command, "--batch-rows", flags->batch_rows, {1, 1 << 20}, "rows computed together");
  add_kept_weights_option(*command, flags->dtype);
  add_device_options(*command, flags->device);
  command->callback([flags] { choose(*flags); });
}

}  // namespace moe
