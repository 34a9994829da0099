#include "eval/routing_report.h"

#include <algorithm>

namespace moe {
namespace {

constexpr int64_t kTopExperts = 5;

Json top_experts_json(const RoutingCounts& routing, int64_t domain, const std::vector<int64_t>& numbers) {
  Json list = Json::array();
  for (const DomainExpert& top : top_experts(routing, domain, kTopExperts)) {
    list.push_back({{"layer", numbers[static_cast<size_t>(top.layer)]},
                    {"expert", top.expert},
                    {"share", top.share},
                    {"others", top.others}});
  }
  return list;
}

Json square_json(const std::vector<double>& values, size_t size) {
  Json matrix = Json::array();
  for (size_t row = 0; row < size; ++row) {
    const auto begin = values.begin() + static_cast<int64_t>(row * size);
    matrix.push_back(std::vector<double>(begin, begin + static_cast<int64_t>(size)));
  }
  return matrix;
}

Json overlap_json(const EvaluationResult& result) {
  Json names = Json::array();
  for (const Score& score : result.domains) names.push_back(score.name);
  return {{"domains", names}, {"mean", square_json(group_overlap(result.routing), result.domains.size())}};
}

std::string overlap_text(const EvaluationResult& result) {
  const size_t size = result.domains.size();
  const std::vector<double> overlap = group_overlap(result.routing);
  std::string text = "\noverlap of the domains' loads, mean over layers (1: the same shares, 0: no expert in common)\n";
  text += fmt::format("{:<18}", "");
  for (size_t column = 0; column < size; ++column) text += fmt::format(" {:>5}", column + 1);
  for (size_t row = 0; row < size; ++row) {
    text += fmt::format("\n{:>2} {:<15}", row + 1, result.domains[row].name);
    for (size_t column = 0; column < size; ++column) text += fmt::format(" {:>5.3f}", overlap[row * size + column]);
  }
  return text + "\n";
}

}  // namespace

std::vector<int64_t> moe_layer_numbers(const ModelConfig& config) {
  std::vector<int64_t> numbers;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (config.is_moe_layer(layer)) numbers.push_back(layer);
  }
  return numbers;
}

std::vector<DomainExpert> top_experts(const RoutingCounts& routing, int64_t domain, int64_t count) {
  std::vector<DomainExpert> all;
  for (int64_t layer = 0; layer < routing.layers; ++layer) {
    const auto own = load_statistics(routing.of(layer, domain));
    std::vector<double> others(own.shares.size(), 0.0);
    double used = 0;  // other domains with tokens
    for (int64_t other = 0; other < routing.groups; ++other) {
      const auto load = load_statistics(routing.of(layer, other));
      if (other == domain || load.max_over_mean == 0) continue;
      used += 1;
      for (size_t expert = 0; expert < others.size(); ++expert) others[expert] += load.shares[expert];
    }
    if (used == 0 || own.max_over_mean == 0) continue;
    for (size_t expert = 0; expert < others.size(); ++expert) {
      all.push_back({.layer = layer,
                     .expert = static_cast<int64_t>(expert),
                     .share = own.shares[expert],
                     .others = others[expert] / used});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const DomainExpert& a, const DomainExpert& b) {
    return a.share - a.others > b.share - b.others;
  });
  all.resize(std::min(all.size(), static_cast<size_t>(count)));
  return all;
}

Json routing_json(const EvaluationResult& result, const ModelConfig& config) {
  const RoutingCounts& routing = result.routing;
  if (routing.layers == 0) return nullptr;
  const auto numbers = moe_layer_numbers(config);
  Json layers = Json::array();
  for (int64_t layer = 0; layer < routing.layers; ++layer) {
    const LoadStatistics load = load_statistics(routing.of(layer));
    Json domains = Json::object();
    for (size_t domain = 0; domain < result.domains.size(); ++domain) {
      domains[result.domains[domain].name] = load_statistics(routing.of(layer, static_cast<int64_t>(domain))).shares;
    }
    layers.push_back({{"layer", numbers[static_cast<size_t>(layer)]},
                      {"entropy", load.entropy},
                      {"max_over_mean", load.max_over_mean},
                      {"dead", load.dead},
                      {"dropped", routing.dropped_share(layer)},
                      {"load", load.shares},
                      {"domains", domains},
                      {"overlap", square_json(group_overlap(routing, layer), result.domains.size())}});
  }
  Json tops = Json::object();
  for (size_t domain = 0; domain < result.domains.size(); ++domain) {
    tops[result.domains[domain].name] = top_experts_json(routing, static_cast<int64_t>(domain), numbers);
  }
  return {{"experts", routing.experts},
          {"top_k", config.num_experts_per_tok},
          {"layers", layers},
          {"top_experts", tops},
          {"overlap", overlap_json(result)}};
}

std::string routing_text(const EvaluationResult& result, const ModelConfig& config) {
  const RoutingCounts& routing = result.routing;
  if (routing.layers == 0) return "";
  const auto numbers = moe_layer_numbers(config);
  std::string text = "load of the experts (entropy 1, max/mean 1: all equal)\n";
  const bool drops = config.eval_capacity_factor > 0;
  text += fmt::format("{:>5} {:>8} {:>8} {:>5}{}\n", "layer", "entropy", "max/mean", "dead", drops ? "  dropped" : "");
  for (int64_t layer = 0; layer < routing.layers; ++layer) {
    const LoadStatistics load = load_statistics(routing.of(layer));
    text += fmt::format("{:>5} {:>8.3f} {:>8.2f} {:>5}{}\n", numbers[static_cast<size_t>(layer)], load.entropy,
                        load.max_over_mean, load.dead,
                        drops ? fmt::format("  {:>6.2f}%", 100 * routing.dropped_share(layer)) : "");
  }
  if (top_experts(routing, 0, 1).empty()) return text;
  text += "\nexperts that took a domain: layer.expert, share of the domain's choices (mean of the other domains)\n";
  for (size_t domain = 0; domain < result.domains.size(); ++domain) {
    text += fmt::format("{:<14}", result.domains[domain].name);
    for (const DomainExpert& top : top_experts(routing, static_cast<int64_t>(domain), kTopExperts)) {
      text += fmt::format("  {}.{} {:.1f}% ({:.1f}%)", numbers[static_cast<size_t>(top.layer)], top.expert,
                          100 * top.share, 100 * top.others);
    }
    text += "\n";
  }
  return text + overlap_text(result);
}

}  // namespace moe
