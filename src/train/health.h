#pragma once
/// Is a run healthy? Watches the steps of a run and warns about what usually ends badly.

#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/step.h"

namespace moe {

/// A kind of trouble. docs/healthy.md explains each one.
struct HealthKind {
  const char* name;   ///< for health.stop_on
  const char* about;  ///< "a loss above that of a uniform guess"
};
inline constexpr HealthKind kHealthKinds[] = {
    {"uniform", "a loss above that of a uniform guess"},
    {"spike", "a loss five deviations above those before it"},
    {"gradient", "a gradient norm ten times its median"},
    {"dead", "experts without a token in 100 steps"},
    {"load", "an expert with four times the mean load for 100 steps"},
    {"collapse", "tokens of a layer that come to choose nearly the same experts (train/routing_alarm.h)"},
};

bool is_health_kind(std::string_view name);
std::vector<std::string> health_kinds();

struct HealthWarning {
  std::string kind;  ///< HealthKind::name
  std::string text;  ///< what was found and what to do, one sentence
};

/// What Health needs to know of a run.
struct HealthFacts {
  /// Of a guess that gives every token the same probability; 0: the loss is none of tokens.
  double uniform_loss = 0;
  int64_t warmup_steps = 0;
  std::vector<int64_t> layers = {};  ///< the numbers of the MoE layers
  int64_t experts = 0;               ///< in each of them
};

/// Use it on one thread at a time. It sees the steps from the start or from a resume on, in their order; what it warns
/// of depends on these steps alone.
class Health {
 public:
  explicit Health(const HealthFacts& facts);

  /// Warnings of each kind come once. Those of "collapse" come from RoutingAlarm.
  std::vector<HealthWarning> watch(int64_t step, const StepReport& report);

 private:
  void watch_loss(int64_t step, double loss, std::vector<HealthWarning>& warnings);
  void watch_gradient(int64_t step, double norm, std::vector<HealthWarning>& warnings);
  void watch_experts(int64_t step, std::span<const int32_t> counts, std::vector<HealthWarning>& warnings);
  /// Adds the warning, unless there was one of this kind.
  template <class Text>
  void warn(const char* kind, std::vector<HealthWarning>& warnings, const Text& text);

  HealthFacts facts_;
  std::set<std::string_view> warned_;
  std::deque<double> losses_, norms_;    // of the last steps, at most kWindow
  std::vector<int64_t> idle_, crowded_;  // for each expert, and for each MoE layer: steps in a row
};

}  // namespace moe
