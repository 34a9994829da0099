#pragma once
/// Routing switches, for any model, at inference (docs/paper.md section 7). They change which experts are chosen. Gates
/// remain the original scores. A mask and a boost are the same thing: a number that is added to an expert's score when
/// experts are chosen. For a mask it is -infinity.

#include <vector>

#include "formats/json.h"
#include "model/config.h"

namespace moe {

struct ExpertMask {
  int64_t layer = 0;
  std::vector<int64_t> experts;
};

/// The largest boost, up or down. Scores are probabilities or small logits, so more changes nothing.
constexpr double kMostBoost = 1000;

struct ExpertBoost {
  int64_t layer = 0;
  int64_t expert = 0;
  double value = 0;  ///< added to the score; boosts of the same expert add up
};

struct RoutingSwitches {
  int64_t experts_per_token =
      /// routed experts per token; 0: the model's number, plus one for each dropped shared expert
      0;
  int64_t skip = 0;                       ///< number of each token's best experts to skip (Figure 4)
  bool drop_shared = false;               ///< replace each shared expert by one more routed expert (section 4.5)
  std::vector<ExpertMask> masked = {};    ///< experts that no token may choose
  std::vector<ExpertBoost> boosted = {};  ///< experts that tokens choose more readily, or less
  /// Layers whose shared experts are left out; nothing takes their place. No option sets it: it is for `moe eval
  /// causal`.
  std::vector<int64_t> without_shared = {};

  bool any() const {
    return experts_per_token != 0 || skip != 0 || drop_shared || !masked.empty() || !boosted.empty() ||
           !without_shared.empty();
  }
};

/// The model's configuration with the switches applied. n_shared_experts does not change, because the weights are read
/// by it. Errors name what does not fit the model: no routed experts, a layer without them, too few experts left.
ModelConfig switched(ModelConfig config, const RoutingSwitches& switches);

/// The switches, for a report: "experts_per_token", "mask_best", "drop_shared", "masked" ({layer: [experts]}),
/// "boosted"
/// ({layer: {expert: number}}).
Json switches_json(const ModelConfig& config, const RoutingSwitches& switches);

/// For the experts of each MoE layer, in order, layer after layer: what is added to their scores; -infinity for masked
/// ones. Empty without masks and boosts.
std::vector<float> score_changes(const ModelConfig& config, const RoutingSwitches& switches);

}  // namespace moe
