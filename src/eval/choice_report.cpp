#include "eval/choice_report.h"

#include <algorithm>

#include "eval/routing_report.h"
#include "eval/token_text.h"

namespace moe {
namespace {

constexpr int64_t kPairs = 5;
constexpr int64_t kShownExperts = 3;
constexpr int64_t kShownTokens = 5;

Json coactivation_json(const ChoiceStatistics& statistics, int64_t layer) {
  Json matrix = Json::array();
  for (int64_t first = 0; first < statistics.experts; ++first) {
    Json row = Json::array();
    for (int64_t second = 0; second < statistics.experts; ++second)
      row.push_back(statistics.pair(layer, first, second));
    matrix.push_back(std::move(row));
  }
  return matrix;
}

Json pairs_json(const ChoiceStatistics& statistics, int64_t layer) {
  Json list = Json::array();
  for (const ExpertPair& pair : top_pairs(statistics, layer, kPairs)) {
    list.push_back({{"experts", {pair.first, pair.second}}, {"tokens", pair.tokens}, {"expected", pair.expected}});
  }
  return list;
}

Json experts_json(const ChoiceStatistics& statistics, int64_t layer, const Tokenizer& tokenizer, int64_t count) {
  Json experts = Json::array();
  for (int64_t expert = 0; expert < statistics.experts; ++expert) {
    Json list = Json::array();
    for (const TakenToken& token : top_tokens(statistics, layer, expert, count)) {
      list.push_back({{"id", token.id},
                      {"text", readable_token(tokenizer, token.id)},
                      {"seen", token.seen},
                      {"share", token.share}});
    }
    experts.push_back(std::move(list));
  }
  return experts;
}

std::string pairs_line(const ChoiceStatistics& statistics, int64_t layer) {
  std::string text;
  const auto percent = [&](double tokens) { return 100 * tokens / static_cast<double>(statistics.tokens); };
  for (const ExpertPair& pair : top_pairs(statistics, layer, kPairs)) {
    text += fmt::format("  {}+{} {:.1f}% ({:.1f}%)", pair.first, pair.second, percent(static_cast<double>(pair.tokens)),
                        percent(pair.expected));
  }
  return text;
}

struct ShownExpert {
  int64_t expert = 0;
  double share = 0;  // the mean over its tokens
  std::vector<TakenToken> tokens;
};

// The experts of a layer whose own tokens choose them most often.
std::vector<ShownExpert> shown_experts(const ChoiceStatistics& statistics, int64_t layer) {
  std::vector<ShownExpert> experts;
  for (int64_t expert = 0; expert < statistics.experts; ++expert) {
    ShownExpert shown{.expert = expert, .tokens = top_tokens(statistics, layer, expert, kShownTokens)};
    if (shown.tokens.empty()) continue;
    for (const TakenToken& token : shown.tokens) shown.share += token.share / static_cast<double>(shown.tokens.size());
    experts.push_back(std::move(shown));
  }
  std::stable_sort(experts.begin(), experts.end(),
                   [](const ShownExpert& a, const ShownExpert& b) { return a.share > b.share; });
  experts.resize(std::min(experts.size(), static_cast<size_t>(kShownExperts)));
  return experts;
}

std::string expert_line(const ShownExpert& shown, int64_t layer_number, const Tokenizer& tokenizer) {
  std::string text = fmt::format("{:<7}", fmt::format("{}.{}", layer_number, shown.expert));
  for (const TakenToken& token : shown.tokens) {
    text += fmt::format("  '{}' {:.0f}%", readable_token(tokenizer, token.id), 100 * token.share);
  }
  return text + "\n";
}

}  // namespace

Json choice_json(const ChoiceStatistics& statistics, const ModelConfig& config, const Tokenizer& tokenizer,
                 int64_t tokens_per_expert) {
  const auto numbers = moe_layer_numbers(config);
  Json layers = Json::array();
  for (int64_t layer = 0; layer < statistics.layers; ++layer) {
    layers.push_back({{"layer", numbers[static_cast<size_t>(layer)]},
                      {"coactivation", coactivation_json(statistics, layer)},
                      {"pairs", pairs_json(statistics, layer)},
                      {"experts", experts_json(statistics, layer, tokenizer, tokens_per_expert)}});
  }
  return {{"tokens", statistics.tokens}, {"min_count", statistics.min_count}, {"layers", layers}};
}

std::string choice_text(const ChoiceStatistics& statistics, const ModelConfig& config, const Tokenizer& tokenizer) {
  const auto numbers = moe_layer_numbers(config);
  std::string text = "pairs of experts chosen together: share of the tokens (if choices were independent)\nlayer\n";
  for (int64_t layer = 0; layer < statistics.layers; ++layer) {
    const std::string line = pairs_line(statistics, layer);
    text += fmt::format("{:>5}{}\n", numbers[static_cast<size_t>(layer)], line.empty() ? "  none" : line);
  }
  text += fmt::format(
      "\ntokens that an expert took: layer.expert, share of the token's occurrences that chose it (of tokens seen {}+ "
      "times)\n",
      statistics.min_count);
  for (int64_t layer = 0; layer < statistics.layers; ++layer) {
    for (const ShownExpert& shown : shown_experts(statistics, layer)) {
      text += expert_line(shown, numbers[static_cast<size_t>(layer)], tokenizer);
    }
  }
  return text;
}

}  // namespace moe
