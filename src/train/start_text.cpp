#include "train/start_text.h"

#include <algorithm>

#include "base/units.h"
#include "model/cost.h"
#include "train/amounts.h"
#include "train/freeze.h"
#include "train/model_tokenizer.h"
#include "train/progress.h"
#include "train/trained_text.h"

namespace moe {
namespace {

constexpr double kManyEpochs = 4;
/// The fraction of the rate of one product that a step usually reaches (docs/performance.md).
constexpr double kReached = 0.5;

int64_t tokens_in_all(const RunConfig& run) {
  return run.schedule.steps * run.data.rows_per_step * run.data.sequence_length;
}

double epochs(const BeforeRun& before) {
  const int64_t tokens = before.train != nullptr ? before.train->info().tokens() : 0;
  return tokens > 0 ? static_cast<double>(tokens_in_all(before.run)) / static_cast<double>(tokens) : 0;
}

double step_flops(const BeforeRun& before) { return step_flops(before.run, before.memory.step); }

/// The largest number of checkpoints at one time: those that are kept, and one that is being written.
int64_t checkpoints_at_once(const RunConfig& run) {
  const CheckpointConfig& keep = run.checkpoint;
  const int64_t multiples = keep.keep_every > 0 ? run.schedule.steps / keep.keep_every : 0;
  const int64_t steps = run.schedule.steps;
  const int64_t written = keep.minutes > 0 ? steps : keep.every > 0 ? (steps + keep.every - 1) / keep.every : 1;
  return std::min(written, keep.keep_last + multiples + 1);
}

/// Free bytes of the file system that has, or will have, the run's folder.
std::optional<int64_t> free_bytes(const fs::path& folder) {
  std::error_code error;
  fs::path place = fs::absolute(folder, error);
  while (!error && !fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  const fs::space_info space = fs::space(place, error);
  if (error || space.available > static_cast<uintmax_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(space.available);
}

std::string data_text(const BeforeRun& before) {
  if (before.train == nullptr) return "none given";
  const DatasetInfo& info = before.train->info();
  std::string text = fmt::format("{}: {} tokens in {}", before.train->name(), count_text(info.tokens()),
                                 counted(info.documents(), "document"));
  if (before.valid == nullptr) return text + "; no validation";
  return text + fmt::format("; validation {}: {} tokens", before.valid->folder().string(),
                            count_text(before.valid->info().tokens()));
}

std::string epochs_text(const BeforeRun& before) {
  if (before.train == nullptr) return "unknown";
  if (before.part_epochs.empty()) return fmt::format("about {:.2f} over the dataset", epochs(before));
  std::vector<std::string> parts;
  for (size_t part = 0; part < before.part_epochs.size(); ++part) {
    parts.push_back(fmt::format("{:.2f} over {}", before.part_epochs[part], before.train->folders()[part].string()));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string time_text(const BeforeRun& before) {
  if (before.product_rate <= 0) return "unknown";
  const int64_t left = before.run.schedule.steps - before.resumed_step.value_or(0);
  const double seconds =
      static_cast<double>(left) * estimated_step_seconds(before.run, before.memory.step, before.product_rate);
  return fmt::format("estimated {} for {}, at half the rate of one product, measured: {}/s", duration_text(seconds),
                     counted(left, "step"), flops_text(before.product_rate));
}

std::string checkpoints_text(const BeforeRun& before) {
  const int64_t each = checkpoint_bytes(before.run.model, before.run.step);
  const int64_t most = checkpoints_at_once(before.run);
  std::string text = fmt::format("{} each, at most {} at once: {}", bytes_text(each), most, bytes_text(most * each));
  if (const auto room = free_bytes(before.run.run_dir)) text += fmt::format("; {} free on the disk", bytes_text(*room));
  return text;
}

std::string new_tokens_text(const BeforeRun& before) {
  if (before.train == nullptr) return "";
  const NewTokens tokens = new_tokens(before.run, *before.train);
  if (tokens.first == tokens.end) return "";
  return fmt::format("; {} from id {} on, whose rows begin as the mean of the others",
                     counted(tokens.end - tokens.first, "new token"), tokens.first);
}

/// Which parameters train, for a run of some experts.
std::string experts_text(const RunConfig& run) {
  const ExpertList& list = *run.step.experts;
  std::vector<std::string> layers;
  for (const auto& [layer, ids] : list.experts) layers.push_back(fmt::format("{}: {}", layer, fmt::join(ids, " ")));
  const auto table = training_table(run.model, run.step);
  if (run.step.parameters == TrainedPart::lora) {
    return fmt::format("adapters; of routed experts those of {} of {} (layer: experts) {}; {} of {} parameters",
                       list.count(), run.model.moe_layers() * run.model.n_routed_experts, fmt::join(layers, "; "),
                       count_text(trained_elements(table)), count_text(count_elements(table)));
  }
  return fmt::format("{} of {} routed experts (layer: experts) {}{}{}; {} of {} parameters", list.count(),
                     run.model.moe_layers() * run.model.n_routed_experts, fmt::join(layers, "; "),
                     list.shared_experts ? "; the shared experts" : "",
                     list.non_expert_modules ? "; everything outside the experts" : "",
                     count_text(trained_elements(table)), count_text(count_elements(table)));
}

// Coefficients without their source.
std::string losses_text(const RunConfig& run) {
  std::string text = "cross-entropy";
  for (const std::string& coefficient : run.coefficients) {
    if (run.model.n_routed_experts > 0) text += ", " + coefficient.substr(0, coefficient.find(" ("));
  }
  return text;
}

std::string ranks_text(const StepConfig& step) {
  if (step.ranks == 1) return "";
  std::vector<std::string> divided;
  if (step.expert_ranks > 1) divided.push_back(fmt::format("experts divided among {}", step.expert_ranks));
  if (step.stages > 1) divided.push_back(fmt::format("layers among {} stages", step.stages));
  const std::string text = fmt::format(" on each of {} ranks", step.ranks);
  return divided.empty() ? text : text + fmt::format(" ({})", fmt::join(divided, ", "));
}

}  // namespace

double step_flops(const RunConfig& run, const MemoryPlan& plan) {
  if (run.step.stages > 1) {  // `plan` is of one of them
    RunConfig whole = run;
    whole.step.rank = 0;
    whole.step.ranks = run.step.row_ranks();
    whole.step.stages = 1;
    return step_flops(whole, plan_training(whole.model, whole.step));
  }
  return static_cast<double>(plan.microbatch_flops) * static_cast<double>(run.step.microbatches * run.step.ranks) +
         static_cast<double>(plan.optimizer_flops);
}

double estimated_step_seconds(const RunConfig& run, const MemoryPlan& plan, double product_rate) {
  const auto microbatches = static_cast<double>(run.step.microbatches);
  const double waits = (microbatches + run.step.stages - 1) / microbatches;  // for the other stages
  return waits * step_flops(run, plan) / (kReached * product_rate * run.step.ranks);
}

int64_t checkpoint_bytes(const ModelConfig& config, const StepConfig& step) {
  int64_t bytes = 0;
  for (const Parameter& parameter : training_table(config, step)) {
    const int64_t elements = parameter.shape.elements();
    if (!config.adapters.empty() && parameter.adapter == AdapterPart::none) continue;  // in model.from alone
    const auto weights = bytes_of(step.storage(parameter), elements);
    const int64_t trained = parameter.trained() ? parameter.trained_shape().elements() : 0;
    // Master and two moments. What is not trained is its own master.
    bytes += weights + 3 * trained * static_cast<int64_t>(sizeof(float)) +
             bytes_of(step.storage(parameter), elements - trained);
  }
  return bytes;
}

std::vector<double> part_epochs(const BatchSource& batches, int64_t steps) {
  std::vector<double> epochs;
  const size_t parts = batches.options().parts.size();
  for (size_t part = 0; parts > 1 && part < parts; ++part) epochs.push_back(batches.epochs(part, steps));
  return epochs;
}

std::string start_text(const BeforeRun& before) {
  const RunConfig& run = before.run;
  const ParameterCounts counts(run.model);
  std::string text;
  const auto line = [&](const char* word, const std::string& what) { text += fmt::format("{:<12} {}\n", word, what); };
  line("run", before.resumed_step ? fmt::format("{}, resumed at step {}", run.run_dir, *before.resumed_step)
                                  : fmt::format("{}, new", run.run_dir));
  line("device", fmt::format("{}; weights in {}", before.device, name(run.step.dtype)));
  const int64_t frozen = frozen_elements(training_table(run.model, run.step));
  line("model", fmt::format("{} parameters{}, {} used per token; {}", count_text(counts.stored()),
                            frozen > 0 ? fmt::format(" ({} frozen)", count_text(frozen)) : "",
                            count_text(counts.activated()), run.method));
  if (!run.from.empty()) line("from", run.from + new_tokens_text(before));
  if (run.step.objective == Objective::dpo) {
    line("objective",
         fmt::format("preferences (dpo), beta {}, against the model that the run begins with", run.step.dpo_beta));
  }
  if (run.step.experts) line("trains", experts_text(run));
  line("data", data_text(before));
  line("steps", fmt::format("{} of {} of {}: {} tokens in all", counted(run.schedule.steps, "step"),
                            counted(run.data.rows_per_step, "row"), counted(run.data.sequence_length, "token"),
                            count_text(tokens_in_all(run))));
  line("epochs", epochs_text(before));
  line("schedule", fmt::format("{}, peak {}, {} of warm-up", name(run.schedule.kind), run.schedule.peak,
                               counted(run.schedule.warmup_steps, "step")));
  line("losses", losses_text(run));
  line("compute", fmt::format("{} a step in {} of {}{}{}, {} in all", flops_text(step_flops(before)),
                              counted(run.step.microbatches, "microbatch", "microbatches"),
                              counted(run.data.microbatch_rows, "row"), ranks_text(run.step),
                              run.step.recompute ? ", layers run again in backward" : "",
                              flops_text(step_flops(before) * static_cast<double>(run.schedule.steps))));
  line("time", time_text(before));
  line("memory", fmt::format("{} of {}{}", bytes_text(before.memory.device_total()), bytes_text(before.available_bytes),
                             run.step.stages > 1  ? fmt::format(", rank {}", run.step.rank)
                             : run.step.ranks > 1 ? ", each rank"
                                                  : ""));
  line("checkpoints", checkpoints_text(before));
  return text;
}

std::vector<std::string> start_warnings(const BeforeRun& before) {
  std::vector<std::string> warnings;
  const auto warn_of_many = [&](double count, const std::string& dataset, const char* advice) {
    if (count <= kManyEpochs) return;
    warnings.push_back(
        fmt::format("the run goes over {} {:.1f} times; beyond about {:.0f} times a model learns little from the same "
                    "text again: {}",
                    dataset, count, kManyEpochs, advice));
  };
  if (before.part_epochs.empty()) warn_of_many(epochs(before), "the dataset", "use more text or fewer steps");
  for (size_t part = 0; part < before.part_epochs.size(); ++part) {
    warn_of_many(before.part_epochs[part], before.train->folders()[part].string(),
                 "use more text, a smaller weight or fewer steps");
  }
  const int64_t needed = checkpoints_at_once(before.run) * checkpoint_bytes(before.run.model, before.run.step);
  if (const auto room = free_bytes(before.run.run_dir); room && *room < needed) {
    warnings.push_back(
        fmt::format("the checkpoints need up to {}, but {} are free in {}: free some space, keep fewer of them "
                    "(checkpoint.keep_last), or choose another run.dir",
                    bytes_text(needed), bytes_text(*room), before.run.run_dir));
  }
  const StepConfig& step = before.run.step;
  if (step.microbatches < 2 * step.stages && step.stages > 1) {
    const auto waits = static_cast<double>(step.stages - 1);
    warnings.push_back(
        fmt::format("with {} in a step, each of {} stages waits {:.0f}% of the time: use smaller microbatches "
                    "(data.microbatch_rows), larger steps (data.rows_per_step) or fewer stages (--pipeline)",
                    counted(step.microbatches, "microbatch", "microbatches"), step.stages,
                    100 * waits / (waits + static_cast<double>(step.microbatches))));
  }
  if (const std::string types = base_types_warning(before.run); !types.empty()) warnings.push_back(types);
  return warnings;
}

}  // namespace moe
