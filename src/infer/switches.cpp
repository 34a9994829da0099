#include "infer/switches.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "model/validate.h"

namespace moe {
namespace {

using Masked = std::vector<std::set<int64_t>>;  // experts of each layer

void check_method(const ModelConfig& config, const RoutingSwitches& switches) {
  if (config.n_routed_experts == 0) fail("the model has no routed experts, so their choice cannot be changed");
  const RoutingRow& routing = config.routing_row();
  const bool chooses = switches.skip > 0 || !switches.masked.empty() || !switches.boosted.empty();
  if (!routing.by_score && (chooses || switches.experts_per_token > 0)) {
    fail("the model's tokens do not choose their experts by score (routing = {}), so their choice cannot be changed",
         routing.name);
  }
  if (!switches.drop_shared) return;
  if (config.n_shared_experts == 0) fail("the model has no shared experts to drop");
  if (routing.top_k != 0 || routing.experts_choose) {
    fail("the model's shared experts cannot be dropped: with routing = {} no token can use a routed one in exchange",
         routing.name);
  }
}

/// `what` is to be done with the expert: "mask" or "boost".
void check_expert(const ModelConfig& config, int64_t layer, int64_t expert, const char* what) {
  if (layer < 0 || layer >= config.num_hidden_layers || !config.is_moe_layer(layer)) {
    fail("cannot {} experts in layer {}, which has no routed experts; expected a layer from 0 to {}{}", what, layer,
         config.num_hidden_layers - 1,
         config.first_k_dense_replace > 0 ? fmt::format(", at least {}", config.first_k_dense_replace) : "");
  }
  if (expert < 0 || expert >= config.n_routed_experts) {
    fail("expert {} to {} in layer {} is not a routed expert, expected 0 to {}", expert, what, layer,
         config.n_routed_experts - 1);
  }
}

void check_boosts(const ModelConfig& config, const RoutingSwitches& switches) {
  for (const ExpertBoost& boost : switches.boosted) {
    check_expert(config, boost.layer, boost.expert, "boost");
    if (std::abs(boost.value) <= kMostBoost) continue;  // false for NaN
    fail("expert {} of layer {} is boosted by {}, expected a number from {} to {}", boost.expert, boost.layer,
         boost.value, -kMostBoost, kMostBoost);
  }
}

void check_shared(const ModelConfig& config, const RoutingSwitches& switches) {
  for (const int64_t layer : switches.without_shared) {
    if (config.n_shared_experts > 0 && layer >= 0 && layer < config.num_hidden_layers && config.is_moe_layer(layer)) {
      continue;
    }
    fail("layer {} has no shared experts that could be left out", layer);
  }
}

Masked masked_experts(const ModelConfig& config, const RoutingSwitches& switches) {
  Masked masked(static_cast<size_t>(config.num_hidden_layers));
  for (const ExpertMask& mask : switches.masked) {
    for (const int64_t expert : mask.experts) {
      check_expert(config, mask.layer, expert, "mask");
      masked[static_cast<size_t>(mask.layer)].insert(expert);
    }
  }
  return masked;
}

/// The smallest number of experts that a mask can leave in the groups that a token uses. Groups are ranked by their
/// best experts, so groups with too few experts come last.
int64_t fewest_left(const ModelConfig& config, const std::set<int64_t>& masked) {
  const GroupLimit limit = config.router().limit;
  const int64_t members = config.n_routed_experts / limit.groups;
  std::vector<int64_t> left(static_cast<size_t>(limit.groups), members);
  for (const int64_t expert : masked) --left[static_cast<size_t>(expert / members)];
  std::sort(left.begin(), left.end(), [&](int64_t a, int64_t b) {
    const bool a_ranks = a >= limit.best, b_ranks = b >= limit.best;
    return a_ranks != b_ranks ? a_ranks : a < b;
  });
  return std::accumulate(left.begin(), left.begin() + limit.used, int64_t{0});
}

void check_enough_left(const ModelConfig& config, const Masked& masked) {
  const bool groups = config.topk_group < config.n_group;
  for (size_t layer = 0; layer < masked.size(); ++layer) {
    if (masked[layer].empty()) continue;
    const int64_t left = fewest_left(config, masked[layer]);
    if (left >= config.num_experts_per_tok + config.skipped_experts) continue;
    fail(
        "the mask of layer {} leaves {} experts{}, expected at least the {} that a token uses and the {} that it "
        "skips",
        layer, left, groups ? fmt::format(" for a token whose {} groups have the fewest", config.topk_group) : "",
        config.num_experts_per_tok, config.skipped_experts);
  }
}

/// Names the flag of the command line that asks for more experts than there are.
void check_enough_experts(const ModelConfig& config, const RoutingSwitches& switches) {
  const int64_t experts = config.n_routed_experts, used = config.num_experts_per_tok;
  if (used > experts && switches.experts_per_token > 0) {
    fail("{} experts for a token are more than the {} routed experts; --experts-per-token takes 1 to {}", used, experts,
         experts);
  }
  if (used > experts) {
    fail(
        "{} experts for a token, one more for each shared one, are more than the {} routed experts; leave out "
        "--drop-shared",
        used, experts);
  }
  if (used + switches.skip > experts) {
    fail("{} best experts to skip and {} to choose are more than the {} routed experts; --mask-best takes 0 to {}",
         switches.skip, used, experts, experts - used);
  }
}

}  // namespace

ModelConfig switched(ModelConfig config, const RoutingSwitches& switches) {
  if (!switches.any()) return config;
  check_method(config, switches);
  if (switches.drop_shared) config.num_experts_per_tok += config.n_shared_experts;
  if (switches.experts_per_token > 0) config.num_experts_per_tok = switches.experts_per_token;
  check_enough_experts(config, switches);
  config.skipped_experts = switches.skip;
  config.second_expert_threshold = 0;  // only for training, and only with two experts
  validate(config);
  check_boosts(config, switches);
  check_shared(config, switches);
  check_enough_left(config, masked_experts(config, switches));
  return config;
}

Json switches_json(const ModelConfig& config, const RoutingSwitches& switches) {
  Json masked = Json::object();
  for (const ExpertMask& mask : switches.masked) {
    for (const int64_t expert : mask.experts) masked[std::to_string(mask.layer)].push_back(expert);
  }
  std::map<std::pair<int64_t, int64_t>, double> sums;
  for (const ExpertBoost& boost : switches.boosted) sums[{boost.layer, boost.expert}] += boost.value;
  Json boosted = Json::object();
  for (const auto& [place, sum] : sums) boosted[std::to_string(place.first)][std::to_string(place.second)] = sum;
  return {{"experts_per_token", config.num_experts_per_tok},
          {"mask_best", switches.skip},
          {"drop_shared", switches.drop_shared},
          {"masked", masked},
          {"boosted", boosted}};
}

std::vector<float> score_changes(const ModelConfig& config, const RoutingSwitches& switches) {
  if (switches.masked.empty() && switches.boosted.empty()) return {};
  std::vector<float> changes(static_cast<size_t>(config.moe_layers() * config.n_routed_experts), 0.0f);
  const auto change = [&](int64_t layer, int64_t expert) -> float& {
    int64_t index = 0;
    for (int64_t before = 0; before < layer; ++before) index += config.is_moe_layer(before) ? 1 : 0;
    return changes[static_cast<size_t>(index * config.n_routed_experts + expert)];
  };
  for (const ExpertBoost& boost : switches.boosted) {
    change(boost.layer, boost.expert) += static_cast<float>(boost.value);
  }
  for (const ExpertMask& mask : switches.masked) {
    for (const int64_t expert : mask.experts) change(mask.layer, expert) = -std::numeric_limits<float>::infinity();
  }
  return changes;
}

}  // namespace moe
