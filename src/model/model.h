#pragma once
/// The whole model over one microbatch: embedding, decoder layers, head. It has a forward pass, and a backward pass
/// with optional recompute. T tokens, D hidden size, V vocabulary, L layers.

#include <functional>

#include "model/held_model.h"

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

/// The stage of a pipeline that a model is: it has these layers alone, the first stage also the embedding, the last one
/// the final norm and the head. Each rank of `group` has one stage, in their order.
struct ModelStage {
  Communicator* communicator = nullptr;  ///< null: the model is whole
  RankGroup group = {};
  LayerRange layers = {};

  explicit operator bool() const { return communicator != nullptr; }
  int before() const { return group.rank(group.member(communicator->rank()) - 1); }
  int after() const { return group.rank(group.member(communicator->rank()) + 1); }
};

/// What this rank has of a model that several ranks have together: some of the routed experts, some of the layers.
struct ModelPart {
  ExpertRanks experts = {};  ///< the model's experts divide among them
  ModelStage stage = {};

  explicit operator bool() const { return experts || stage; }
};

/// The part that the rank `held.rank` of `communicator` has. All ranks of the layout call it together. Nothing is
/// divided in a layout of one rank.
ModelPart part_of(const HeldModel& held, Communicator& communicator);

/// A microbatch that is trained, and where its results go (Model::train).
struct TrainedBatch {
  TokenViews tokens;
  BalanceViews balance;
  StepStats stats;
  RouteMode mode;
  View gradient_scale;
  bool recompute;
  View row_loss;
  /// Called before weights are first read: with -1 (those of the embedding), each layer, and the number of layers
  /// (those of the head and its norm). Not by the stages of a pipeline. May be empty.
  std::function<void(int64_t place)> before = {};
};

/// What a microbatch needs between its forward and its backward pass. It is in an arena, as its views are.
struct KeptPass {
  struct Layer {
    size_t mark;
    View h;
    RouteChoice choice;
    DecoderSaved saved;
  };
  Arena* arena = nullptr;
  size_t mark = 0;
  std::vector<Layer> layers;  ///< from the first one that backward reaches
  View h = {};                ///< after the last one, which is in scratch memory
};

/// Any number of threads may use a model, each with a Pass of its own, while nobody changes the weights.
class Model {
 public:
  /// The caller keeps owning the weights, which must outlive the model. With `ranks`, they have this rank's experts,
  /// and all ranks of the group make the same calls (nn/expert_ranks.h). With `stage`, they are those of the stage: the
  /// ranks of its group make the same calls with the same tokens.
  Model(const ModelConfig& config, const BalanceConfig& balance, ModelWeights weights, const ExpertRanks& ranks = {},
        const ModelStage& stage = {});

  const ModelConfig& config() const { return config_; }
  /// What is here of the model, to plan memory.
  HeldModel held() const;
  const LayerRange& layers() const { return layers_; }
  /// True if other ranks have a part of it.
  bool asks_ranks() const { return decoder_.moe.ranks || stage_; }

  /// The residual stream after the last layer, [T, D], in scratch memory; of a stage, after its last layer. Nothing is
  /// kept for a backward pass. All stages get the choices, gates, counts and dropped choices of all layers that `stats`
  /// has. With `cache`, tokens have sequences and positions, and attend to the cache. `watch`, if
  /// it is not empty, sees the residual stream [T, D] before the first layer (0), after it (1), and so on; the view is
  /// valid during the call.
  View forward(Pass& pass, const TokenViews& tokens, const StepStats& stats, const KvCache* cache = nullptr,
               const RouteMode& mode = {}, const std::function<void(int64_t, View)>& watch = {}) const;
  /// The same from the residual stream `h` [T, D] before layer `first` on, which is in scratch memory and is
  /// overwritten. `watch` sees the stream before layer `first` (first), after it (first + 1), and so on.
  View forward_from(Pass& pass, const TokenViews& tokens, const StepStats& stats, int64_t first, View h,
                    const KvCache* cache = nullptr, const RouteMode& mode = {},
                    const std::function<void(int64_t, View)>& watch = {}) const;

  /// batch.row_loss [T] (stat), times the weights of the tokens, and every gradient that `gradients` has (a frozen
  /// parameter has none), for the loss gradient_scale * sum of row_loss + the balance losses. With `recompute` only
  /// each layer's input and choice of experts are kept, and backward runs the layer again. Layers below the first
  /// gradient only run forward. `ready` may be empty.
  void train(Pass& pass, const TrainedBatch& batch, const ModelWeights& gradients,
             const GradientsReady& ready = {}) const;

  /// The two halves of train(), for stages. The residual stream before the stage's first layer is `h` [T, D], in
  /// pass.saved, whose mark was `mark` before it was pushed; the first stage fills it. The one after the last layer
  /// goes to `out`; if it is absent, to scratch memory that is pushed. Each microbatch that waits for its backward pass
  /// has its own pass.saved; `again` holds what recompute makes and soon releases, and may be the same.
  KeptPass train_forward(Pass& pass, Arena& again, const TrainedBatch& batch, const ModelWeights& gradients,
                         size_t mark, View h, View out) const;
  /// `d` [T, D] is the gradient of what train_forward() gave, which the last stage makes itself, and becomes that of
  /// its `h`. `pass` saves in `again`. Releases what was kept.
  void train_backward(Pass& pass, KeptPass& kept, const TrainedBatch& batch, const ModelWeights& gradients, View d,
                      const GradientsReady& ready) const;

  /// The least of the numbers that the stages have; all ranks call it together. Without stages, `own`.
  int64_t least_of_stages(int64_t own) const;

  /// Final norm and logits (stat [n, V]) of rows [begin, begin + n) of the residual stream h. All stages get them.
  void logits(Pass& pass, View h, View logits) const;
  /// row_loss [T] (stat), without gradients. All stages get it.
  void loss(Pass& pass, View h, View targets, View row_loss) const;

 private:
  RouteChoice save_choice(Pass& pass, const LayerContext& context) const;
  /// One layer of which nothing is kept.
  void forward_layer(Pass& pass, LayerContext context, View h, View h_out) const;
  bool is_first() const { return layers_.begin == 0; }
  bool is_last() const { return layers_.end == config_.num_hidden_layers; }
  /// The stage's first layer that the backward pass must reach: the first one with a gradient, 0 if the embedding has
  /// one, and the end if neither exists. It is the first layer of all if stages before it may train.
  size_t first_trained_layer(ModelWeights gradients) const;
  /// The head, from the residual stream kept.h to its gradient d.
  void head_forward_backward(Pass& pass, const KeptPass& kept, const TrainedBatch& batch, const ModelWeights& gradients,
                             View d) const;
  /// Gives all stages what the last one has.
  void share(View result) const;
  /// Gives all stages what each has of its MoE layers, the first axis of the views.
  void share_layers(const StepStats& stats) const;

  ModelConfig config_;
  DecoderConfig decoder_;
  ModelWeights weights_;
  ModelStage stage_;
  LayerRange layers_;               // of the model, or of the stage
  std::vector<int64_t> moe_index_;  // index among the MoE layers, for each layer; -1: dense
};

}  // namespace moe
