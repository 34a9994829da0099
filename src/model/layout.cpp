#include "model/layout.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/units.h"

namespace moe {
namespace {

/// More than any run has; so that a product of three does not overflow.
constexpr int64_t kMostWays = int64_t{1} << 20;

struct Part {
  const char* name;
  int64_t Layout::*ways;
};
constexpr Part kParts[] = {{"dp", &Layout::data}, {"ep", &Layout::expert}, {"pp", &Layout::pipeline}};

std::vector<std::string_view> split(std::string_view text, char between) {
  std::vector<std::string_view> words;
  for (;;) {
    const size_t end = text.find(between);
    words.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return words;
    text.remove_prefix(end + 1);
  }
}

/// Why the model cannot be divided so; "": it can.
std::string why_not(const ModelConfig& config, const Layout& layout) {
  if (layout.expert > 1 && config.moe_layers() == 0) {
    return fmt::format("ep={}, but the model has no routed experts; use ep=1", layout.expert);
  }
  if (layout.expert > 1 && config.n_routed_experts % layout.expert != 0) {
    return fmt::format("ep={}, expected a divisor of the {} routed experts", layout.expert, config.n_routed_experts);
  }
  if (layout.pipeline > config.num_hidden_layers) {
    return fmt::format("pp={}, expected at most {}: a stage has at least one layer", layout.pipeline,
                       counted(config.num_hidden_layers, "layer"));
  }
  return "";
}

}  // namespace

LayoutPosition position_of(const Layout& layout, int64_t rank) {
  const int64_t in_stage = rank % layout.stage_ranks();
  return {.stage = rank / layout.stage_ranks(), .data = in_stage / layout.expert, .expert = in_stage % layout.expert};
}

std::vector<LayerRange> stage_layers(int64_t layers, int64_t stages) {
  std::vector<LayerRange> ranges;
  int64_t begin = 0;
  for (int64_t stage = 0; stage < stages; ++stage) {
    const int64_t count = layers / stages + (stage < layers % stages ? 1 : 0);
    ranges.push_back({begin, begin + count});
    begin += count;
  }
  return ranges;
}

std::string text_of(const Layout& layout) {
  return fmt::format("dp={},ep={},pp={}", layout.data, layout.expert, layout.pipeline);
}

Layout parse_layout(std::string_view text) {
  const auto refuse = [&](const std::string& expected) {
    fail_usage("layout {:?}: expected {}, such as dp=2,ep=4,pp=1", text, expected);
  };
  Layout layout;
  std::vector<std::string_view> given;
  for (const std::string_view word : split(text, ',')) {
    const std::string_view key = word.substr(0, word.find('='));
    const auto part = std::find_if(std::begin(kParts), std::end(kParts), [&](const Part& p) { return p.name == key; });
    if (part == std::end(kParts) || key.size() == word.size()) refuse("dp, ep and pp with a number each");
    if (std::find(given.begin(), given.end(), key) != given.end()) refuse(fmt::format("{} once", key));
    given.push_back(key);
    const std::string_view value = word.substr(key.size() + 1);
    int64_t ways = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), ways);
    if (error != std::errc() || end != value.data() + value.size() || ways < 1 || ways > kMostWays) {
      refuse(fmt::format("a whole number from 1 to {} for {}", kMostWays, key));
    }
    layout.*(part->ways) = ways;
  }
  return layout;
}

void check_layout(const ModelConfig& config, const Layout& layout, int64_t ranks) {
  if (layout.ranks() != ranks) {
    fail_usage("layout {} is of {}, expected {}: dp times ep times pp is the number of ranks", text_of(layout),
               counted(layout.ranks(), "rank"), ranks);
  }
  if (const std::string why = why_not(config, layout); !why.empty()) {
    fail_usage("layout {}: {}", text_of(layout), why);
  }
}

std::vector<Layout> layouts_of(const ModelConfig& config, int64_t ranks, int64_t most_expert) {
  std::vector<Layout> all;
  for (int64_t pipeline = 1; pipeline <= ranks; ++pipeline) {
    if (ranks % pipeline != 0) continue;
    const int64_t of_stage = ranks / pipeline;
    for (int64_t expert = 1; expert <= std::min(of_stage, most_expert); ++expert) {
      if (of_stage % expert != 0) continue;
      const Layout layout{.data = of_stage / expert, .expert = expert, .pipeline = pipeline};
      if (why_not(config, layout).empty()) all.push_back(layout);
    }
  }
  return all;
}

}  // namespace moe
