#pragma once
/// The whole model over one microbatch: embedding, decoder layers, head. It has a forward pass, and a backward pass
/// with optional recompute. T tokens, D hidden size, V vocabulary, L layers.

#include <functional>

#include "model/parameters.h"

namespace moe {

/// Statistics of the MoE layers over a step, on the device. Absent ones are not updated.
struct StepStats {
  View group = {};        ///< i32 [T]: the row of counts for each token; -1: not counted
  View counts = {};       ///< i32 [moe layers, groups, E]
  View ids = {};          ///< i32 [moe layers, T, S], of one microbatch
  View gates = {};        ///< stat [moe layers, T, S], of the same choices
  View dropped = {};      ///< i32 [moe layers]
  View losses = {};       ///< stat [moe layers, kRouterLosses]
  BalanceSums sums = {};  ///< [moe layers, 1, ...], for the step scope
  bool collect = false;   ///< LayerStats::collect

  LayerStats layer(int64_t moe_index) const;
};

/// A model's keys and values, one entry per layer.
struct KvCache {
  std::vector<LayerCache> layers;
};

/// Called in the last microbatch when gradients are complete, from the last part of the model to the first: with the
/// number of layers (those of the head and its norm), with each layer, and with -1 (that of the embedding).
using GradientsReady = std::function<void(int64_t layer)>;

/// Any number of threads may use a model, each with a Pass of its own, while nobody changes the weights.
class Model {
 public:
  /// The caller keeps owning the weights, which must outlive the model. With `ranks`, they have this rank's experts,
  /// and all ranks of the group make the same calls (nn/expert_ranks.h).
  Model(const ModelConfig& config, const BalanceConfig& balance, ModelWeights weights, const ExpertRanks& ranks = {});

  const ModelConfig& config() const { return config_; }
  /// True if other ranks have a part of its experts.
  bool asks_ranks() const { return static_cast<bool>(decoder_.moe.ranks); }

  /// The residual stream after the last layer, [T, D], in scratch memory. Nothing is kept for a backward pass. With
  /// `cache`, tokens have sequences and positions, and attend to the cache. `watch`, if it is not empty, sees the
  /// residual stream [T, D] before the first layer (0), after it (1), and so on; the view is valid during the call.
  View forward(Pass& pass, const TokenViews& tokens, const StepStats& stats, const KvCache* cache = nullptr,
               const RouteMode& mode = {}, const std::function<void(int64_t, View)>& watch = {}) const;
  /// The same from the residual stream `h` [T, D] before layer `first` on, which is in scratch memory and is
  /// overwritten. `watch` sees the stream before layer `first` (first), after it (first + 1), and so on.
  View forward_from(Pass& pass, const TokenViews& tokens, const StepStats& stats, int64_t first, View h,
                    const KvCache* cache = nullptr, const RouteMode& mode = {},
                    const std::function<void(int64_t, View)>& watch = {}) const;

  /// row_loss [T] (stat), times the weights of the tokens, and every gradient that `gradients` has (a frozen parameter
  /// has none), for the loss gradient_scale * sum of row_loss + the balance losses. With `recompute` only each layer's
  /// input and choice of experts are kept, and backward runs the layer again. Layers below the first gradient only run
  /// forward. `ready` may be empty.
  void train(Pass& pass, const TokenViews& tokens, const BalanceViews& balance, const StepStats& stats,
             const RouteMode& mode, View gradient_scale, bool recompute, const ModelWeights& gradients, View row_loss,
             const GradientsReady& ready = {}) const;

  /// Final norm and logits (stat [n, V]) of rows [begin, begin + n) of the residual stream h.
  void logits(Pass& pass, View h, View logits) const;
  /// row_loss [T] (stat), without gradients.
  void loss(Pass& pass, View h, View targets, View row_loss) const;

 private:
  RouteChoice save_choice(Pass& pass, const LayerContext& context) const;
  /// One layer of which nothing is kept.
  void forward_layer(Pass& pass, LayerContext context, View h, View h_out) const;
  /// The first layer that the backward pass must reach: the first one with a gradient, 0 if the embedding has one, and
  /// the number of layers if neither exists.
  size_t first_trained_layer(ModelWeights gradients) const;

  ModelConfig config_;
  DecoderConfig decoder_;
  ModelWeights weights_;
  std::vector<int64_t> moe_index_;  // index among the MoE layers, for each layer; -1: dense
};

}  // namespace moe
