#include "train/training_log.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/json.h"

namespace moe {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::vector<RouterLoss> all_losses() {
  std::vector<RouterLoss> losses;
  for (int64_t i = 0; i < kRouterLosses; ++i) losses.push_back(static_cast<RouterLoss>(i));
  return losses;
}

std::string loss_key(RouterLoss loss) { return fmt::format("{}_loss", name(loss)); }

/// The paper's own losses are always shown; those of single methods only if they are not 0.
bool is_shown(RouterLoss loss, const StepReport& report) {
  return loss == RouterLoss::expert || loss == RouterLoss::device || report.router_loss(loss) != 0;
}

std::span<const int32_t> layer_counts(const StepReport& report, const ModelConfig& config, int64_t moe_index) {
  const auto experts = static_cast<size_t>(config.n_routed_experts);
  return std::span(report.counts).subspan(static_cast<size_t>(moe_index) * experts, experts);
}

LoadStatistics layer_load(const StepReport& report, const ModelConfig& config, int64_t moe_index) {
  return load_statistics(layer_counts(report, config, moe_index));
}

OrderedJson score_json(const Score& score) {
  return {{"loss", score.loss()},
          {"loss_error", score.loss_error},
          {"perplexity", score.perplexity()},
          {"bits_per_byte", score.bits_per_byte()},
          {"bits_per_byte_error", score.bits_per_byte_error},
          {"tokens", score.tokens},
          {"bytes", score.bytes}};
}

OrderedJson preference_json(const PreferenceReport& preference) {
  return {{"accuracy", preference.accuracy},
          {"margin", preference.margin},
          {"chosen_reward", preference.chosen},
          {"rejected_reward", preference.rejected}};
}

}  // namespace

std::string to_json_line(const StepLine& line, const ModelConfig& config, int64_t counts_every) {
  const StepReport& report = line.report;
  OrderedJson json = {{"step", line.step},
                      {"loss", report.loss},
                      {"gradient_norm", report.gradient_norm},
                      {"learning_rate", line.learning_rate},
                      {"tokens", line.tokens},
                      {"tokens_per_second", static_cast<double>(line.tokens) / line.seconds},
                      {"time", line.time},
                      {"epoch", line.epoch},
                      {"peak_bytes", line.peak_bytes}};
  if (line.exchange_seconds > 0) json["exchange_seconds"] = line.exchange_seconds;
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) json["diverged"] = true;
  if (report.preference) json.update(preference_json(*report.preference));
  for (const RouterLoss loss : all_losses()) {
    if (is_shown(loss, report)) json[loss_key(loss)] = report.router_loss(loss);
  }
  const bool drops = config.router().drops();
  if (drops) json["dropped"] = std::accumulate(report.dropped.begin(), report.dropped.end(), int64_t{0});
  OrderedJson layers = OrderedJson::array();
  for (int64_t layer = 0, moe_index = 0; layer < config.num_hidden_layers; ++layer) {
    if (!config.is_moe_layer(layer)) continue;
    const LoadStatistics load = layer_load(report, config, moe_index);
    OrderedJson entry = {{"layer", layer},
                         {"load_entropy", load.entropy},
                         {"max_over_mean_load", load.max_over_mean},
                         {"dead_experts", load.dead}};
    for (const RouterLoss loss : all_losses()) {
      if (is_shown(loss, report)) entry[loss_key(loss)] = report.router_loss(loss, moe_index);
    }
    if (drops) entry["dropped"] = report.dropped[static_cast<size_t>(moe_index)];
    if (counts_every > 0 && line.step % counts_every == 0) entry["counts"] = layer_counts(report, config, moe_index);
    layers.push_back(entry);
    ++moe_index;
  }
  json["layers"] = layers;
  return json_text(json) + "\n";
}

std::string to_json_line(int64_t step, const EvaluationResult& result,
                         const std::optional<PreferenceReport>& preference) {
  OrderedJson json = {{"step", step}};
  json.update(score_json(result.all));
  if (preference) {
    json["preference_loss"] = preference->loss;
    json.update(preference_json(*preference));
  }
  OrderedJson domains = OrderedJson::object();
  for (const Score& score : result.domains) domains[score.name] = score_json(score);
  json["domains"] = domains;
  return json_text(json) + "\n";
}

double dropped_share(const StepReport& report) {
  const double dropped = std::accumulate(report.dropped.begin(), report.dropped.end(), 0.0);
  const double chosen = std::accumulate(report.counts.begin(), report.counts.end(), 0.0);
  return chosen > 0 ? dropped / chosen : 0;
}

std::vector<std::pair<int64_t, std::vector<double>>> loads_of(const StepReport& report, const ModelConfig& config) {
  std::vector<std::pair<int64_t, std::vector<double>>> loads;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (!config.is_moe_layer(layer)) continue;
    std::vector<double> shares = layer_load(report, config, static_cast<int64_t>(loads.size())).shares;
    for (double& share : shares) share *= static_cast<double>(shares.size());
    loads.emplace_back(layer, std::move(shares));
  }
  return loads;
}

double worst_load(const StepReport& report, const ModelConfig& config) {
  double worst = 0;
  for (int64_t i = 0; i < config.moe_layers(); ++i)
    worst = std::max(worst, layer_load(report, config, i).max_over_mean);
  return worst;
}

}  // namespace moe
