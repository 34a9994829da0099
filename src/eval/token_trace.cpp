#include "eval/token_trace.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "batch/batch.h"
#include "eval/routing_report.h"
#include "eval/token_text.h"
#include "infer/scorer.h"
#include "tensor/finite.h"

namespace moe {
namespace {

int64_t slots_of(const TokenTrace& trace, const ModelConfig& config) {
  return static_cast<int64_t>(trace.chosen.size()) / (config.moe_layers() * trace.tokens());
}

std::vector<int64_t> counts_of(const TokenTrace& trace, const ModelConfig& config, int64_t moe_layer) {
  std::vector<int64_t> counts(static_cast<size_t>(config.n_routed_experts), 0);
  for (int64_t token = 0; token < trace.tokens(); ++token) {
    for (const GatedExpert& one : experts_of(trace, config, moe_layer, token)) {
      ++counts[static_cast<size_t>(one.expert)];
    }
  }
  return counts;
}

/// A background of the 256 colours of terminals, on which black text is read. Neighbouring experts differ.
int colour_of(int32_t expert) {
  static constexpr std::array kColours{117, 215, 120, 219, 229, 159, 209, 183, 114, 223, 81,  211,
                                       191, 147, 173, 87,  228, 180, 156, 217, 75,  221, 123, 177};
  return kColours[static_cast<size_t>(expert) % kColours.size()];
}

std::string coloured(const std::string& text, int32_t expert, bool colours) {
  return colours ? fmt::format("\x1b[30;48;5;{}m{}\x1b[0m", colour_of(expert), text) : text;
}

/// The text in the colours of the experts with the largest gate.
std::string coloured_text(const TokenTrace& trace, const ModelConfig& config, const Tokenizer& tokenizer,
                          int64_t moe_layer) {
  std::string text;
  for (int64_t token = 0; token < trace.tokens(); ++token) {
    const auto experts = experts_of(trace, config, moe_layer, token);
    const std::string shown = readable_token(tokenizer, trace.ids[static_cast<size_t>(token)]);
    text += experts.empty() ? shown : coloured(shown, experts.front().expert, true);
  }
  return text + "\n";
}

std::string counts_line(const std::vector<int64_t>& counts, bool colours) {
  std::vector<size_t> order;
  for (size_t expert = 0; expert < counts.size(); ++expert) {
    if (counts[expert] > 0) order.push_back(expert);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return counts[a] > counts[b]; });
  std::string text = "tokens of each expert:";
  for (const size_t expert : order) {
    text += ' ';
    text += coloured(fmt::format(" {} ", expert), static_cast<int32_t>(expert), colours);
    text += fmt::format("{}x{}", colours ? " " : "", counts[expert]);
  }
  return text + "\n";
}

}  // namespace

TokenTrace trace_tokens(const ModelOnDevice& runtime, std::vector<int32_t> ids) {
  const ModelConfig& config = runtime.model.config();
  if (config.moe_layers() == 0) fail("the model has no routed experts, so there is nothing to trace");
  const auto count = static_cast<int64_t>(ids.size());
  if (count == 0) fail("the text has no token; give a longer one");
  if (count > config.max_position_embeddings) {
    fail("the text has {} tokens, expected at most {} (max_position_embeddings); shorten it", count,
         config.max_position_embeddings);
  }
  Scorer scorer(runtime, count, 0, ChosenIds::with_gates);
  const Batch batch = single_document(ids);
  TokenTrace trace{.ids = std::move(ids), .losses = scorer.losses(batch), .chosen = {}, .gates = {}};
  if (first_not_finite(DType::f32, trace.losses.data(), count) >= 0) scorer.fail_not_finite(batch);
  trace.losses.pop_back();  // the last token predicts nothing
  trace.chosen = scorer.chosen_ids();
  trace.gates = scorer.chosen_gates();
  return trace;
}

std::vector<GatedExpert> experts_of(const TokenTrace& trace, const ModelConfig& config, int64_t moe_layer,
                                    int64_t token) {
  const int64_t slots = slots_of(trace, config);
  std::vector<GatedExpert> experts;
  for (int64_t slot = 0; slot < slots; ++slot) {
    const auto at = static_cast<size_t>((moe_layer * trace.tokens() + token) * slots + slot);
    if (trace.chosen[at] >= 0) experts.push_back({.expert = trace.chosen[at], .gate = trace.gates[at]});
  }
  std::stable_sort(experts.begin(), experts.end(),
                   [](const GatedExpert& a, const GatedExpert& b) { return a.gate > b.gate; });
  return experts;
}

Json trace_json(const TokenTrace& trace, const ModelConfig& config, const Tokenizer& tokenizer) {
  Json tokens = Json::array(), layers = Json::array();
  for (size_t token = 0; token < trace.ids.size(); ++token) {
    tokens.push_back({{"id", trace.ids[token]},
                      {"text", readable_token(tokenizer, trace.ids[token])},
                      {"loss", token == 0 ? Json() : Json(trace.losses[token - 1])}});
  }
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  for (size_t layer = 0; layer < numbers.size(); ++layer) {
    const auto moe_layer = static_cast<int64_t>(layer);
    Json list = Json::array();
    for (int64_t token = 0; token < trace.tokens(); ++token) {
      Json experts = Json::array();
      for (const GatedExpert& one : experts_of(trace, config, moe_layer, token)) {
        experts.push_back(Json::array({one.expert, one.gate}));
      }
      list.push_back(std::move(experts));
    }
    layers.push_back(
        {{"layer", numbers[layer]}, {"counts", counts_of(trace, config, moe_layer)}, {"tokens", std::move(list)}});
  }
  return {{"experts", config.n_routed_experts}, {"tokens", std::move(tokens)}, {"layers", std::move(layers)}};
}

std::string trace_text(const TokenTrace& trace, const ModelConfig& config, const Tokenizer& tokenizer,
                       const std::vector<int64_t>& layers, bool colours) {
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  std::string text;
  for (size_t layer = 0; layer < numbers.size(); ++layer) {
    if (!layers.empty() && std::find(layers.begin(), layers.end(), numbers[layer]) == layers.end()) continue;
    const auto moe_layer = static_cast<int64_t>(layer);
    text += fmt::format("{}layer {}\n", text.empty() ? "" : "\n", numbers[layer]);
    if (colours) text += coloured_text(trace, config, tokenizer, moe_layer);
    text += counts_line(counts_of(trace, config, moe_layer), colours);
    for (int64_t token = 0; token < trace.tokens(); ++token) {
      const std::string shown = readable_token(tokenizer, trace.ids[static_cast<size_t>(token)]);
      text += fmt::format("{:>20} ", "\"" + shown + "\"");
      for (const GatedExpert& one : experts_of(trace, config, moe_layer, token)) {
        text += ' ';
        text += coloured(fmt::format("{:>3}", one.expert), one.expert, colours);
        text += fmt::format(" {:.3f}", one.gate);
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace moe
