#include "eval/report.h"

#include <cmath>

#include "eval/routing_report.h"

namespace moe {
namespace {

Json score_json(const Score& score) {
  return {{"documents", score.documents},
          {"tokens", score.tokens},
          {"bytes", score.bytes},
          {"nats", score.nats},
          {"loss", score.loss()},
          {"loss_error", score.loss_error},
          {"perplexity", score.perplexity()},
          {"bits_per_byte", score.bits_per_byte()},
          {"bits_per_byte_error", score.bits_per_byte_error}};
}

std::string score_line(const Score& score) {
  return fmt::format("{:<14} {:>9} {:>11} {:>12} {:>18} {:>12} {:>18}\n", score.name, score.documents, score.tokens,
                     score.bytes, with_error(score.loss(), score.loss_error),
                     score.tokens > 0 ? fmt::format("{:.2f}", score.perplexity()) : "-",
                     with_error(score.bits_per_byte(), score.bits_per_byte_error));
}

}  // namespace

std::string with_error(double value, double error) {
  if (std::isnan(value)) return fmt::format("{:<15}", "-");  // of nothing
  return std::isnan(error) ? fmt::format("{:.4f}         ", value) : fmt::format("{:.4f} ± {:.4f}", value, error);
}

Json scores_json(const EvaluationResult& result) {
  Json domains = Json::object();
  for (const Score& score : result.domains) domains[score.name] = score_json(score);
  return {{"all", score_json(result.all)}, {"domains", domains}};
}

Json evaluation_json(const EvaluationResult& result, const ModelConfig& config) {
  Json json = scores_json(result);
  json["routing"] = routing_json(result, config);
  return json;
}

std::string score_table(const EvaluationResult& result) {
  std::string text = fmt::format("{:<14} {:>9} {:>11} {:>12} {:>18} {:>12} {:>18}\n", "domain", "documents", "tokens",
                                 "bytes", "loss (nats/token)", "perplexity", "bits per byte");
  for (const Score& score : result.domains) text += score_line(score);
  if (result.domains.size() > 1) text += score_line(result.all);
  return text;
}

}  // namespace moe
