#include "model/methods.h"

#include <vector>

#include "base/error.h"
#include "model/balance_defaults.h"
#include "model/keys.h"

namespace moe {
namespace {

using Model = ModelConfig;
using Balance = BalanceConfig;

/// The K best of softmax scores, dropless: every key that needs routed experts gets its default.
void reset_routing(Model& model) {
  const Model plain;
  for (const KeyRow<Model>& row : model_keys()) {
    if (row.needs != nullptr) row.set(model, row.get(plain));
  }
}

void capacity(Model& model, double training, double evaluation) {
  model.capacity_factor = training;
  model.eval_capacity_factor = evaluation;
}

/// A method other than the K best of scores, with its losses.
void route_by(RoutingMethod routing, Model& model, Balance& balance) {
  model.routing = routing;
  balance = default_balance(model);
}

void as_it_is(Model&, Balance&) {}

void dense(Model& model, Balance& balance) {
  model.n_routed_experts = model.n_shared_experts = 0;
  balance = default_balance(model);
}

void soft_mixture(Model&, Balance& balance) { balance.alpha_expert = 0; }

void noisy_topk(Model& model, Balance& balance) { route_by(RoutingMethod::noisy_topk, model, balance); }

void hash(Model& model, Balance& balance) { route_by(RoutingMethod::hash, model, balance); }

void switch_original(Model& model, Balance&) {
  model.router_jitter = 0.01;
  capacity(model, 1.25, 1.25);
}

void gshard_original(Model& model, Balance& balance) {
  model.norm_topk_prob = true;
  model.second_expert_threshold = 0.5;  // min(1, 2 g2)
  capacity(model, 2, 2);
  balance.first_choice = true;
}

void st_moe(Model& model, Balance& balance) {
  model.norm_topk_prob = true;
  model.second_expert_threshold = 0.2;
  capacity(model, 1.25, 2);
  balance.first_choice = true;
  balance.z_loss = 0.001f;
}

void expert_choice(Model& model, Balance& balance) {
  route_by(RoutingMethod::expert_choice, model, balance);
  model.num_experts_per_tok = 2;
  capacity(model, 2, 0);
}

void stable_moe(Model& model, Balance& balance) { route_by(RoutingMethod::stable, model, balance); }

void mixtral(Model& model, Balance& balance) {
  model.norm_topk_prob = true;
  balance.alpha_expert = 0.02f;
}

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
  balance = default_balance(model);
}

void loss_free(Model& model, Balance& balance) {
  loss_free_softmax(model, balance);
  model.scoring_func = Scoring::sigmoid;
  model.norm_topk_prob = true;
  model.routed_scaling_factor = 2.5;
}

}  // namespace

void Method::apply(ModelConfig& model, BalanceConfig& balance) const {
  reset_routing(model);
  if (top_k == kEveryExpert) model.num_experts_per_tok = model.n_routed_experts;
  if (top_k >= 0) model.num_experts_per_tok = top_k;
  balance = default_balance(model);
  choose(model, balance);
}

std::span<const Method> methods() {
  constexpr int64_t any = Method::kAnyTopK, all_experts = Method::kEveryExpert;
  static const std::vector<Method> all = {
      {"dense", "dense", 0, dense},
      {"soft_mixture", "soft mixture (Jacobs 1991)", all_experts, soft_mixture},
      {"noisy_topk", "noisy top-k (Shazeer 2017)", any, noisy_topk},
      {"hash", "Hash Layer, random", 1, hash},
      {"hash_balanced", "Hash Layer, balanced", 1, hash, true},
      {"switch", "Switch, the paper's form", 1, as_it_is},
      {"switch_original", "Switch, the original", 1, switch_original},
      {"gshard", "GShard, the paper's form", 2, as_it_is},
      {"gshard_original", "GShard, the original", 2, gshard_original},
      {"st_moe", "ST-MoE", 2, st_moe},
      {"expert_choice", "expert choice", any, expert_choice},
      {"stable_moe", "StableMoE", 1, stable_moe},
      {"mixtral", "Mixtral", 2, mixtral},
      {"deepseekmoe", "DeepSeekMoE", any, as_it_is},
      {"device_limited", "DeepSeekMoE, device-limited (V2)", any, device_limited},
      {"loss_free", "DeepSeekMoE, loss-free balancing, sigmoid (V3)", any, loss_free},
      {"loss_free_softmax", "DeepSeekMoE, loss-free balancing, softmax", any, loss_free_softmax},
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

}  // namespace moe
