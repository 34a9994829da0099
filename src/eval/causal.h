#pragma once
/// What a model loses without each of its experts: the same text again with one expert masked, expert by expert.
///
/// A masked expert of layer l changes nothing before layer l. So a batch runs once in full, the residual stream before
/// each MoE layer is kept in the host's memory, and each mask computes only the layers from l on, for the rows in which
/// a token chose the expert. The losses have the same bits as those of a full pass with the mask.

#include <functional>
#include <optional>
#include <vector>

#include "eval/expert_scores.h"
#include "eval/routing_counts.h"
#include "infer/loaded_model.h"
#include "infer/model_on_device.h"

namespace moe {

struct CausalOptions {
  int64_t sequence_length;
  int64_t batch_rows = 1;            ///< rows computed together; changes no bit of the result
  std::vector<int64_t> layers = {};  ///< as numbered in the model; empty: all MoE layers
  RoutingSwitches switches = {};     ///< that hold always
  /// Called after each batch of a mask; may be empty.
  std::function<void(int64_t rows_done, int64_t rows_in_all)> progress = {};
};

/// Sums of cross-entropies, one for each document.
using DocumentNats = std::vector<double>;

struct CausalLayer {
  int64_t layer = 0;                          ///< as numbered in the model
  std::vector<DocumentNats> masked = {};      ///< for each routed expert: with it masked
  std::optional<DocumentNats> unshared = {};  ///< without the shared experts of this layer, if it has any
};

struct CausalEffects {
  DocumentNats unmasked;
  std::vector<CausalLayer> layers;
  RoutingCounts routing;  ///< of all MoE layers, without a mask; the groups are the domains
  ExpertScores scores;    ///< likewise
};

/// Refuses a model whose experts cannot be masked one at a time, and layers without routed experts. It needs no
/// weights. `model` is what errors call it.
void check_causal(const std::string& model, const ModelConfig& config, const CausalOptions& options);

/// Masks every expert of the layers in turn. `device` and `backend` are those of the model. Throws an Error for
/// documents without a target, and for a loss that is not finite.
CausalEffects measure_causal(const LoadedModel& model, Device& device, Backend& backend, const Documents& documents,
                             const CausalOptions& options);

}  // namespace moe
