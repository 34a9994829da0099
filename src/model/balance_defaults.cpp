#include "model/balance_defaults.h"

#include "base/error.h"
#include "model/keys.h"

namespace moe {

BalanceConfig default_balance(const ModelConfig& config) {
  if (config.n_routed_experts == 0) return {};
  BalanceConfig balance = config.routing_row().losses;
  if (config.has_router_bias()) balance.alpha_expert = 1e-4f, balance.bias_rate = 0.001f;
  return balance;
}

void validate(const BalanceConfig& balance, const ModelConfig& config) {
  if (config.n_routed_experts == 0) return;
  if (const KeyRow<BalanceConfig>* row = without_effect<BalanceConfig>(balance_keys(), balance, config)) {
    fail("{} is {}, expected to be left out: it needs {}", row->key, plain_text(row->get(balance)), row->needs->text);
  }
  if (balance.first_choice && (config.has_router_bias() || config.scoring_func == Scoring::sigmoid)) {
    fail(
        "balance.first_choice is true, but model.scoring_func is {} and model.topk_method {}; first choices are "
        "counted only for softmax scores without a bias, so leave it out",
        name(config.scoring_func), name(config.topk_method));
  }
  if (balance.z_loss != 0 && config.scoring_func != Scoring::softmax) {
    fail("balance.z_loss is {}, but model.scoring_func is sigmoid; the z-loss is defined for the logits of a softmax",
         balance.z_loss);
  }
  if (config.n_routed_experts % balance.devices != 0) {
    fail("balance.devices is {}, expected a divisor of model.n_routed_experts, which is {}", balance.devices,
         config.n_routed_experts);
  }
}

}  // namespace moe
