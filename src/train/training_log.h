#pragma once
/// The logs of a run: log.jsonl (one object per step) and eval.jsonl (one object per evaluation).

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "eval/loss.h"
#include "train/step.h"

namespace moe {

/// The line of one step: step, loss, gradient_norm, learning_rate, tokens, tokens_per_second, expert_loss, device_loss
/// and the other routers' losses that are not 0 (sums over layers, with their weights); dropped choices if there is a
/// capacity; and for each MoE layer load_entropy, max_over_mean_load, dead_experts, its losses and its dropped choices.
/// With the objective dpo, also accuracy, margin, chosen_reward and rejected_reward. Numbers read back exactly; one
/// that is not finite is null, and then the line has "diverged": true. Of ranks with GPUs also exchange_seconds. Every
/// so many steps, a layer has `counts`: the tokens that chose each expert.
struct StepLine {
  int64_t step;
  StepReport report;
  double learning_rate;
  int64_t tokens;  ///< of this step, without padding
  double seconds;
  double time = 0;         ///< at its end, in seconds since 1970
  double epoch = 0;        ///< passes over the data so far
  int64_t peak_bytes = 0;  ///< the most memory of the device that was allocated so far
  /// In which the device did nothing but exchange with other ranks or wait for them; 0: not measured.
  double exchange_seconds = 0;
};

/// `config` says which layers are MoE layers. `counts_every`: steps between lines with counts; 0: none. Ends with a
/// line feed.
std::string to_json_line(const StepLine& line, const ModelConfig& config, int64_t counts_every);

/// step, loss, perplexity, bits_per_byte (with half of its 95% interval), and the same for each domain. Of preferences
/// also preference_loss, accuracy, margin, chosen_reward and rejected_reward.
std::string to_json_line(int64_t step, const EvaluationResult& result,
                         const std::optional<PreferenceReport>& preference = {});

/// The fraction of all choices whose expert was full.
double dropped_share(const StepReport& report);

/// For each MoE layer its number, and the load of each expert as a multiple of the mean.
std::vector<std::pair<int64_t, std::vector<double>>> loads_of(const StepReport& report, const ModelConfig& config);

/// The largest max/mean load over all layers; 0 without MoE layers.
double worst_load(const StepReport& report, const ModelConfig& config);

}  // namespace moe
