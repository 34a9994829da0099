#include "train/health.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/median.h"

namespace moe {
namespace {

constexpr size_t kWindow = 100;        // steps that a step is compared with
constexpr size_t kFewest = 20;         // of them, before the first comparison
constexpr size_t kMeanOf = 10;         // steps whose mean loss is compared with a uniform guess
constexpr double kClearlyWorse = 1.1;  // times the loss of a uniform guess: during warm-up, too
constexpr double kDeviations = 5, kTimesMedian = 10, kTimesMeanLoad = 4;
constexpr int64_t kStepsInARow = 100;

void keep(std::deque<double>& values, double value) {
  values.push_back(value);
  if (values.size() > kWindow) values.pop_front();
}

}  // namespace

bool is_health_kind(std::string_view name) {
  return std::any_of(std::begin(kHealthKinds), std::end(kHealthKinds),
                     [&](const HealthKind& kind) { return kind.name == name; });
}

std::vector<std::string> health_kinds() {
  std::vector<std::string> names;
  for (const HealthKind& kind : kHealthKinds) names.emplace_back(kind.name);
  return names;
}

Health::Health(const HealthFacts& facts)
    : facts_(facts), idle_(facts.layers.size() * static_cast<size_t>(facts.experts)), crowded_(facts.layers.size()) {}

template <class Text>
void Health::warn(const char* kind, std::vector<HealthWarning>& warnings, const Text& text) {
  if (warned_.insert(kind).second) warnings.push_back({kind, text()});
}

void Health::watch_loss(int64_t step, double loss, std::vector<HealthWarning>& warnings) {
  const double uniform = facts_.uniform_loss;
  if (uniform > 0) {
    double recent = loss;
    const size_t others = std::min(kMeanOf - 1, losses_.size());
    for (size_t i = 0; i < others; ++i) recent += losses_[losses_.size() - 1 - i];
    recent /= static_cast<double>(others + 1);
    const bool learned_nothing = step > facts_.warmup_steps && others + 1 == kMeanOf && recent > uniform;
    if (learned_nothing || loss > kClearlyWorse * uniform) {
      warn("uniform", warnings, [&] {
        return fmt::format(
            "step {}: the loss is {:.4g}, above the {:.4g} of a guess that gives every token the same "
            "probability; lower optimizer.learning_rate or train.init_std",
            step, learned_nothing ? recent : loss, uniform);
      });
    }
  }
  if (losses_.size() >= kFewest) {
    const auto count = static_cast<double>(losses_.size());
    const double mean = std::accumulate(losses_.begin(), losses_.end(), 0.0) / count;
    double squares = 0;
    for (const double before : losses_) squares += (before - mean) * (before - mean);
    const double deviation = std::sqrt(squares / (count - 1));
    if (loss > mean + kDeviations * deviation && deviation > 0) {
      warn("spike", warnings, [&] {
        return fmt::format(
            "step {}: the loss jumped to {:.4g}, {:.1f} deviations above the mean of the {} steps before "
            "({:.4g}); look at the text of this step (moe data inspect), or lower optimizer.learning_rate",
            step, loss, (loss - mean) / deviation, losses_.size(), mean);
      });
    }
  }
  keep(losses_, loss);
}

void Health::watch_gradient(int64_t step, double norm, std::vector<HealthWarning>& warnings) {
  if (norms_.size() >= kFewest) {
    const double usual = median(std::vector<double>(norms_.begin(), norms_.end()));
    if (norm > kTimesMedian * usual && usual > 0) {
      warn("gradient", warnings, [&] {
        return fmt::format(
            "step {}: the gradient norm is {:.4g}, {:.0f} times the median of the {} steps before; lower "
            "optimizer.learning_rate or optimizer.clip",
            step, norm, norm / usual, norms_.size());
      });
    }
  }
  keep(norms_, norm);
}

void Health::watch_experts(int64_t step, std::span<const int32_t> counts, std::vector<HealthWarning>& warnings) {
  const auto experts = static_cast<size_t>(facts_.experts);
  for (size_t layer = 0; layer < crowded_.size(); ++layer) {
    const std::span<const int32_t> here = counts.subspan(layer * experts, experts);
    const auto tokens = static_cast<double>(std::accumulate(here.begin(), here.end(), int64_t{0}));
    if (tokens == 0) continue;  // a mixture without choices, or a step without tokens
    const double mean = tokens / static_cast<double>(experts);
    const double most = *std::max_element(here.begin(), here.end());
    int64_t dead = 0;
    for (size_t e = 0; e < experts; ++e) {
      int64_t& idle = idle_[layer * experts + e];
      idle = here[e] > 0 ? 0 : idle + 1;
      dead += idle >= kStepsInARow;
    }
    if (dead > 0) {
      warn("dead", warnings, [&] {
        return fmt::format(
            "step {}: {} of {} experts of layer {} had no token in the last {} steps; raise "
            "balance.alpha_expert, or use fewer experts",
            step, dead, facts_.experts, facts_.layers[layer], kStepsInARow);
      });
    }
    crowded_[layer] = most > kTimesMeanLoad * mean ? crowded_[layer] + 1 : 0;
    if (crowded_[layer] >= kStepsInARow) {
      warn("load", warnings, [&] {
        return fmt::format(
            "step {}: one expert of layer {} takes {:.1f} times the mean load, and more than {} times "
            "for {} steps; raise balance.alpha_expert",
            step, facts_.layers[layer], most / mean, kTimesMeanLoad, kStepsInARow);
      });
    }
  }
}

std::vector<HealthWarning> Health::watch(int64_t step, const StepReport& report) {
  std::vector<HealthWarning> warnings;
  watch_loss(step, report.loss, warnings);
  watch_gradient(step, report.gradient_norm, warnings);
  watch_experts(step, report.counts, warnings);
  return warnings;
}

}  // namespace moe
