#pragma once
/// Every routing method on the tiny model.

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "model/balance_defaults.h"
#include "model/methods.h"
#include "ops/transfer.h"
#include "tests/support/tiny_model.h"

namespace moe {

struct MethodCase {
  std::string name;
  ModelConfig config;
  BalanceConfig balance;
  int64_t second_stage = 0;

  /// The step of tests: number 1 is in StableMoE's first stage if second_stage is 2, and in its second if it is 1.
  StepConfig step(const Batch& batch, int64_t microbatches, DType dtype = DType::f32) const {
    StepConfig result = step_config_for(batch, microbatches, dtype);
    result.balance = balance;
    result.seed = 11;
    result.second_stage = second_stage;
    return result;
  }
};

inline void PrintTo(const MethodCase& test, std::ostream* out) { *out << test.name; }

/// The method `name` of model/methods.h on the tiny model, with losses, noise and capacities large enough to matter.
inline MethodCase method_case(const std::string& name, BalanceScope scope = BalanceScope::sequence) {
  MethodCase result{.name = name, .config = tiny_config(), .balance = {}};
  ModelConfig& config = result.config;
  BalanceConfig& balance = result.balance;
  balance = default_balance(config);
  find_method(name).apply(config, balance);
  if (config.n_routed_experts == 0) return result;
  balance.scope = scope;
  balance.bias_rate = 0;  // a step must be the same when it runs again
  if (balance.alpha_expert > 0) balance.alpha_expert = 0.3f;
  if (balance.z_loss > 0) balance.z_loss = 0.05f;
  if (config.router_jitter > 0) config.router_jitter = 0.3;
  if (config.second_expert_threshold > 0) config.second_expert_threshold = 0.6;
  if (config.routing == RoutingMethod::topk && config.capacity_factor > 0) config.capacity_factor = 1;
  if (config.topk_method == TopkMethod::group_limited_greedy) {
    config.n_group = balance.devices = 3;
    config.topk_group = 2;
  }
  if (config.routing == RoutingMethod::stable) result.second_stage = 2;
  return result;
}

/// All of them except "dense", StableMoE in both stages, loss-free balancing with groups.
inline std::vector<MethodCase> method_cases(BalanceScope scope = BalanceScope::sequence) {
  std::vector<MethodCase> result;
  for (const Method& method : methods()) {
    if (std::string_view(method.name) != "dense") result.push_back(method_case(method.name, scope));
  }
  MethodCase second = method_case("stable_moe", scope);
  second.name = "stable_moe_second_stage";
  second.second_stage = 1;
  result.push_back(second);
  MethodCase nodes = method_case("loss_free", scope);
  nodes.name = "loss_free_node_limited";
  nodes.config.n_group = 3;
  nodes.config.topk_group = 2;
  result.push_back(nodes);
  return result;
}

/// Eight rows in which no choice of any method depends on rounding: wherever a choice is made, the scores on its two
/// sides differ by more than kClearMargin (tests/train/clear_choices_test.cpp). Two tokens that are equal in exact
/// arithmetic, such as a document's first two if they have the same id, could differ in the last bit on only one
/// backend.
inline Batch clear_choices_batch(int64_t vocabulary) {
  return packed_batch({{7, 4}, {11}, {3, 1, 5}, {9}, {12}, {2, 2, 2}, {6, 6}, {10, 1}}, 12, vocabulary, 11);
}
constexpr double kClearMargin = 1e-4;

/// Gives values to router weights that start at 0 and to biases, so that results depend on them. A stage of a pipeline
/// gets those of the whole model.
inline void spread_zero_parameters(const TrainingStep& run, Device& device) {
  const std::vector<Parameter> all = parameter_table(run.model().config());
  for (size_t p = 0; p < run.table().size(); ++p) {
    const Parameter& parameter = run.table()[p];
    if (parameter.start != InitialValue::zero) continue;
    const auto place =
        std::find_if(all.begin(), all.end(), [&](const Parameter& one) { return one.name == parameter.name; });
    const Random random(5, static_cast<uint64_t>(place - all.begin()));
    std::vector<double> values(static_cast<size_t>(parameter.shape.elements()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = 0.2 * random.normal(i);
    if (run.masters()[p].dtype == DType::f64) {
      upload_vector(device, run.masters()[p], values);
    } else {
      upload_vector(device, run.masters()[p], std::vector<float>(values.begin(), values.end()));
    }
  }
}

}  // namespace moe
