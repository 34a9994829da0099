#pragma once
/// What a run tells: log.jsonl (one object a step) and eval.jsonl (one object an evaluation).

#include <string>

#include "base/file.h"
#include "eval/loss.h"
#include "train/step.h"

namespace moe {

/// One step's line: step, loss, gradient_norm, learning_rate, tokens, tokens_per_second, expert_loss, device_loss and
/// other routers' losses that are not 0 (sums over layers, weights inside), dropped choices where there is a capacity;
/// and per MoE layer load_entropy, max_over_mean_load, dead_experts, its losses and what it dropped. Numbers
/// round-trip.
struct StepLine {
  int64_t step;
  StepReport report;
  double learning_rate;
  int64_t tokens;  ///< of this step, without padding
  double seconds;
};

/// `config` says which layers are MoE layers. Ends with a line feed.
std::string to_json_line(const StepLine& line, const ModelConfig& config);

/// step, loss, perplexity, bits_per_byte (and its 95% half-width), and the same per domain.
std::string to_json_line(int64_t step, const EvaluationResult& result);

/// Choices that found their expert full, of all.
double dropped_share(const StepReport& report);

/// The largest max/mean load over layers; 0 without MoE layers.
double worst_load(const StepReport& report, const ModelConfig& config);

/// Seconds of a clock that only moves forward.
double steady_seconds();

}  // namespace moe
