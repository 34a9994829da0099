#include "model/methods.h"

#include <vector>

#include "base/error.h"

namespace moe {
namespace {

using Model = ModelConfig;
using Balance = BalanceConfig;

void top_k(Model& model, int64_t k, bool normalized = false) {
  model.num_experts_per_tok = k;
  model.norm_topk_prob = normalized;
}

void capacity(Model& model, double training, double evaluation) {
  model.capacity_factor = training;
  model.eval_capacity_factor = evaluation;
}

void dense(Model& model, Balance& balance) {
  model.n_routed_experts = model.n_shared_experts = model.num_experts_per_tok = 0;
  balance = default_balance(model);
}

void soft_mixture(Model& model, Balance& balance) {
  top_k(model, model.n_routed_experts);
  balance.alpha_expert = 0;
}

void noisy_topk(Model& model, Balance& balance) {
  model.routing = RoutingMethod::noisy_topk;
  balance = default_balance(model);
}

void hash(Model& model, Balance& balance) {
  model.routing = RoutingMethod::hash;
  top_k(model, 1);
  balance = default_balance(model);
}

void switch_paper(Model& model, Balance&) { top_k(model, 1); }

void switch_original(Model& model, Balance&) {
  top_k(model, 1);
  model.router_jitter = 0.01;
  capacity(model, 1.25, 1.25);
}

void gshard_paper(Model& model, Balance&) { top_k(model, 2); }

void gshard_original(Model& model, Balance& balance) {
  top_k(model, 2, true);
  model.second_expert_threshold = 0.5;  // min(1, 2 g2)
  capacity(model, 2, 2);
  balance.first_choice = true;
}

void st_moe(Model& model, Balance& balance) {
  top_k(model, 2, true);
  model.second_expert_threshold = 0.2;
  capacity(model, 1.25, 2);
  balance.first_choice = true;
  balance.z_loss = 0.001f;
}

void expert_choice(Model& model, Balance& balance) {
  model.routing = RoutingMethod::expert_choice;
  top_k(model, 2);
  capacity(model, 2, 0);
  balance = default_balance(model);
}

void stable_moe(Model& model, Balance& balance) {
  model.routing = RoutingMethod::stable;
  top_k(model, 1);
  balance = default_balance(model);
}

void mixtral(Model& model, Balance& balance) {
  top_k(model, 2, true);
  balance.alpha_expert = 0.02f;
}

void deepseekmoe(Model&, Balance&) {}

void device_limited(Model& model, Balance& balance) {
  model.topk_method = TopkMethod::group_limited_greedy;
  model.n_group = 8;
  model.topk_group = 3;
  balance.alpha_expert = 0.003f;
  balance.alpha_device = 0.05f;
  balance.alpha_communication = 0.02f;
  balance.devices = 8;
}

void loss_free_softmax(Model& model, Balance& balance) {
  model.topk_method = TopkMethod::noaux_tc;
  balance.alpha_expert = 1e-4f;
  balance.bias_rate = 0.001f;
}

void loss_free(Model& model, Balance& balance) {
  loss_free_softmax(model, balance);
  model.scoring_func = Scoring::sigmoid;
  model.norm_topk_prob = true;
  model.routed_scaling_factor = 2.5;
}

}  // namespace

std::span<const Method> methods() {
  static const std::vector<Method> all = {
      {"dense", "dense", dense},
      {"soft_mixture", "soft mixture (Jacobs 1991)", soft_mixture},
      {"noisy_topk", "noisy top-k (Shazeer 2017)", noisy_topk},
      {"hash", "Hash Layer, random", hash},
      {"hash_balanced", "Hash Layer, balanced", hash, true},
      {"switch", "Switch, the paper's form", switch_paper},
      {"switch_original", "Switch, the original", switch_original},
      {"gshard", "GShard, the paper's form", gshard_paper},
      {"gshard_original", "GShard, the original", gshard_original},
      {"st_moe", "ST-MoE", st_moe},
      {"expert_choice", "expert choice", expert_choice},
      {"stable_moe", "StableMoE", stable_moe},
      {"mixtral", "Mixtral", mixtral},
      {"deepseekmoe", "DeepSeekMoE", deepseekmoe},
      {"device_limited", "DeepSeekMoE, device-limited (V2)", device_limited},
      {"loss_free", "DeepSeekMoE, loss-free balancing, sigmoid (V3)", loss_free},
      {"loss_free_softmax", "DeepSeekMoE, loss-free balancing, softmax", loss_free_softmax},
  };
  return all;
}

const Method& find_method(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Method& method : methods()) {
    if (method.name == name) return method;
    names.push_back(method.name);
  }
  fail_usage("there is no method {}, expected one of {}", name, fmt::join(names, ", "));
}

BalanceConfig default_balance(const ModelConfig& config) {
  BalanceConfig balance;
  if (config.n_routed_experts == 0) return balance;
  if (config.routing == RoutingMethod::topk) balance.alpha_expert = 0.01f;
  if (config.routing == RoutingMethod::noisy_topk) balance.importance = balance.load = 0.1f;
  if (config.routing == RoutingMethod::stable) balance.stable_balance = balance.stable_distillation = 0.3f;
  return balance;
}

void validate(const BalanceConfig& balance, const ModelConfig& config) {
  if (config.n_routed_experts == 0) return;
  const auto only = [&](RoutingMethod method, const char* key, bool used) {
    if (used && config.routing != method) {
      fail("balance.{} is set, but the model's routing is {}; only {} has this loss, so leave it out", key,
           name(config.routing), name(method));
    }
  };
  only(RoutingMethod::topk, "alpha_expert", balance.alpha_expert != 0);
  only(RoutingMethod::topk, "alpha_device", balance.alpha_device != 0);
  only(RoutingMethod::topk, "alpha_communication", balance.alpha_communication != 0);
  only(RoutingMethod::topk, "z_loss", balance.z_loss != 0);
  only(RoutingMethod::topk, "first_choice", balance.first_choice);
  only(RoutingMethod::noisy_topk, "importance", balance.importance != 0);
  only(RoutingMethod::noisy_topk, "load", balance.load != 0);
  only(RoutingMethod::stable, "stable_balance", balance.stable_balance != 0);
  only(RoutingMethod::stable, "stable_distillation", balance.stable_distillation != 0);
  if (balance.alpha_communication != 0 && config.topk_method != TopkMethod::group_limited_greedy) {
    fail(
        "balance.alpha_communication is {}, which asks for groups of experts, but model.topk_method is {}; expected "
        "group_limited_greedy",
        balance.alpha_communication, name(config.topk_method));
  }
  if (balance.z_loss != 0 && config.scoring_func != Scoring::softmax) {
    fail("balance.z_loss is {}, but model.scoring_func is sigmoid; the z-loss is of a softmax's logits",
         balance.z_loss);
  }
  if (balance.bias_rate != 0 && !config.has_router_bias()) {
    fail("balance.bias_rate is {}, but the model has no biases to move; set model.topk_method to noaux_tc",
         balance.bias_rate);
  }
  if (config.n_routed_experts % balance.devices != 0) {
    fail("balance.devices is {}, expected a divisor of model.n_routed_experts, which is {}", balance.devices,
         config.n_routed_experts);
  }
}

}  // namespace moe
