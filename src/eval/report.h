#pragma once
/// The losses of an evaluation, for people and for programs.

#include <string>

#include "eval/loss.h"
#include "formats/json.h"

namespace moe {

/// {"all": SCORE, "domains": {NAME: SCORE}, "routing": routing_json(...)}, where SCORE is {"documents", "tokens",
/// "bytes", "nats", "loss", "loss_error", "perplexity", "bits_per_byte", "bits_per_byte_error"}; the errors are half
/// the width of the 95% intervals, null where there is none (Score).
Json evaluation_json(const EvaluationResult& result, const ModelConfig& config);

/// Only "all" and "domains" of that object.
Json scores_json(const EvaluationResult& result);

/// "1.2345 ± 0.0123", or the value alone, with the same width, if there is no interval.
std::string with_error(double value, double error);

/// A line for each domain and, if there are several, one for all.
std::string score_table(const EvaluationResult& result);

}  // namespace moe
