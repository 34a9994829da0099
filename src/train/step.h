#pragma once
/// One training step on one device: microbatches, losses, the optimiser. Also the plan of its memory, which comes from
/// the same code, run over a null device. Use a step on one thread at a time.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/thread_pool.h"
#include "batch/token_buffers.h"
#include "checkpoint/expert_list.h"
#include "comm/one_rank.h"
#include "comm/traffic.h"
#include "model/lora.h"
#include "model/model.h"
#include "train/optimizer.h"
#include "train/owners.h"
#include "train/preference.h"
#include "train/step_memory.h"

namespace moe {

/// train.parameters: what a run trains.
enum class TrainedPart {
  all,     ///< all parameters, except those of train.freeze
  lora,    ///< adapters (ModelConfig::adapters); the model's own parameters keep their values
  experts  ///< what StepConfig::experts lists
};
const char* name(TrainedPart part);

struct StepConfig {
  BalanceConfig balance;
  OptimizerConfig optimizer;
  DType dtype = DType::f32;            ///< storage of weights and activations; bf16 keeps f32 master weights
  bool recompute = false;              ///< run each layer again in backward instead of keeping its activations
  Rebuild rebuild = Rebuild::nothing;  ///< what backward makes again (nn/pass.h)
  bool choose_recompute = true;        ///< recompute is not settled yet (train/settle.h); a step does not read this
  int64_t microbatch_tokens = 0;       ///< rows times sequence length
  int64_t sequence_length = 0;
  int rank = 0;
  int ranks = 1;                                     ///< that share each step (ops/communicator.h)
  int expert_ranks = 1;                              ///< of them that divide the routed experts (train/rank_layout.h)
  int stages = 1;                                    ///< of a pipeline, which divide the layers (train/rank_layout.h)
  int64_t microbatches = 1;                          ///< of a step, that one rank computes
  int64_t logits_per_chunk = Pass::kLogitsPerChunk;  ///< number computed at once (nn/head.h)
  uint64_t seed = 0;                                 ///< seed of the routers' draws
  std::vector<std::string> freeze = {};              ///< parameters that keep their values (train/freeze.h)
  TrainedPart parameters = TrainedPart::all;
  LoraConfig lora = {};                    ///< with TrainedPart::lora
  std::string experts_file = {};           ///< where the list of experts is
  std::optional<ExpertList> experts = {};  ///< the list, with TrainedPart::experts (train/freeze.h)
  Objective objective = Objective::next_token;
  double dpo_beta = 0.1;     ///< beta of Objective::dpo (train/preference.h)
  int64_t second_stage = 0;  ///< the first step of StableMoE's second stage; 0: there is none

  RankLayout layout() const { return {.rank = rank, .ranks = ranks, .experts = expert_ranks, .stages = stages}; }
  /// The ranks that compute different rows.
  int row_ranks() const { return layout().stage_ranks(); }
  /// The layers that this rank has.
  LayerRange layers(const ModelConfig& config) const;
  /// The microbatches that are between their forward and their backward pass at the same time.
  int64_t waiting() const { return std::min<int64_t>(microbatches, stages - layout().stage()); }
  /// The type that a parameter of training_table() is stored in.
  DType storage(const Parameter& parameter) const;
  /// For a microbatch whose first token is token number `first_token` of the step.
  RouteMode mode(int64_t step, int64_t first_token) const;
};

/// The step's parameters. Those that do not train are frozen (train/freeze.h).
std::vector<Parameter> training_table(const ModelConfig& config, const StepConfig& step);
/// Of them those that this rank has, with its routed experts.
std::vector<Parameter> held_table(const ModelConfig& config, const StepConfig& step);

/// None if the step has one stage, or the matrix does not train or is not both.
std::optional<TiedRanks> tied_ranks(const ModelConfig& config, StepConfig step);

/// The memory and costs of the step, without allocating anything. If ranks divide the experts, a rank's memory is that
/// of the most rows that its experts can have, and its costs are those of as many rows for each expert.
MemoryPlan plan_training(const ModelConfig& config, const StepConfig& step);

/// The bytes that the rank moves in step `number` among the ranks that divide the experts: tokens, their choices,
/// outputs, and the gradients of all these.
Traffic expert_traffic(const ModelConfig& config, const StepConfig& step, int64_t number);

/// The results of one step. Losses are those of the whole step; balance losses include alpha.
struct StepReport {
  double loss = 0;               ///< mean cross-entropy over the step's target tokens, by their weights; or of pairs
  std::vector<double> losses;    ///< [MoE layers, kRouterLosses]
  double gradient_norm = 0;      ///< before clipping
  std::vector<int32_t> counts;   ///< [MoE layers, E]: tokens that chose each expert
  std::vector<int32_t> dropped;  ///< [MoE layers]: choices whose expert was full
  std::optional<PreferenceReport> preference = {};  ///< with Objective::dpo, whose loss is `loss`

  double router_loss(RouterLoss kind, int64_t moe_layer) const {
    return losses[static_cast<size_t>(moe_layer * kRouterLosses + static_cast<int64_t>(kind))];
  }
  /// Over all layers.
  double router_loss(RouterLoss kind) const;
};

class TrainingStep {
 public:
  /// Allocates everything. `plan` is plan_training of the same arguments. Weights are uninitialised. `communicator` is
  /// of step.ranks ranks and must outlive this object; all ranks make the same calls in the same order.
  TrainingStep(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan, Device& device,
               Backend& backend, Communicator& communicator = one_rank())
      : TrainingStep(config, step, std::optional(plan), device, backend, communicator) {}
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  const std::vector<Parameter>& table() const { return table_; }
  /// In the order of the table: StepMemory.
  const std::vector<View>& parameters() const { return memory_.parameters(); }
  const std::vector<View>& gradients() const { return memory_.gradients(); }
  const std::vector<View>& masters() const { return memory_.masters(); }
  const Optimizer& optimizer() const { return optimizer_; }
  /// Of the table: true if this rank has the optimiser's state, and the master if that is a copy. It updates these
  /// parameters; the others come from their owners.
  const std::vector<bool>& owned() const { return owned_; }
  const Model& model() const { return *model_; }

  /// Draws the initial weights (train/initialize.h) and sets the optimiser state to zero.
  void initialize(uint64_t seed, double standard_deviation, std::span<const int64_t> token_counts = {},
                  ThreadPool* pool = nullptr);
  /// Draws the adapters' initial weights, with which they change nothing.
  void initialize_adapters(uint64_t seed, ThreadPool* pool = nullptr);
  /// The optimiser state of a run's beginning, for weights that were set from outside.
  void clear_optimizer() { optimizer_.clear(backend_); }
  /// Call it after masters were set from outside: sets the parameters to their rounded copies.
  void parameters_from_masters();

  /// Computes the losses and gradients of step number `step` (from 1) over `microbatches` batches from `batch(index)`.
  /// Of a step's batches, which are numbered from 0, the ranks of a stage take as many each, in their order: `index`
  /// counts from first_microbatch(). At the end each gradient's owner has the sum over all ranks, and the other ranks
  /// anything. Does not change the optimiser state. Step scope first runs a counting pass over all of them, and the
  /// objective dpo a pass that computes the log-probabilities of their pairs.
  void accumulate(const std::function<Batch(int64_t)>& batch, int64_t step = 1);
  int64_t first_microbatch() const { return layout_.share() * step_.microbatches; }
  /// After accumulate(): clips, updates the parameters as step number `step` (from 1), and reports. If the gradients'
  /// norm is not finite, no parameter and no optimiser state changes.
  StepReport update(int64_t step, double learning_rate) {
    begin_update(step, learning_rate);
    return end_update();
  }
  /// The two halves of update(). The first one only queues, so the caller may work while a GPU computes. The second one
  /// waits for the GPU. If `accumulate_follows`, weights from other ranks may come beside the next accumulate(), which
  /// waits for those of each layer where it reads them.
  void begin_update(int64_t step, double learning_rate, bool accumulate_follows = false);
  StepReport end_update();
  /// If something other than accumulate() follows after all, call this first.
  void await_weights();
  /// Of what this rank has: all of its weights, and the gradients that it owns or their parts. Indices into table().
  Optimizer::NotFinite find_not_finite() {
    await_weights();
    return optimizer_.find_not_finite(device_, backend_);
  }

 private:
  friend MemoryPlan plan_training(const ModelConfig& config, const StepConfig& step);
  friend Traffic expert_traffic(const ModelConfig& config, const StepConfig& step, int64_t number);

  /// Without a plan: to be found out.
  TrainingStep(const ModelConfig& config, const StepConfig& step, const std::optional<MemoryPlan>& plan, Device& device,
               Backend& backend, Communicator& communicator);
  /// The device's buffers of a microbatch between its forward and its backward pass.
  struct BatchPlace {
    std::unique_ptr<TokenBuffers> tokens;
    View group, group_tokens;
  };

  ModelStage stage();
  void make_batch_buffers();
  BatchPlace make_batch_place();
  void bind_gradients();
  /// What the ranks add up and send, so that their GPUs can read it from each other.
  void show_to_ranks();
  void begin(double weight, int64_t tokens);
  /// True if a counting pass comes before the step's microbatches. StableMoE's second stage has no losses and needs
  /// none.
  bool counts_first(const RouteMode& mode) const;
  TokenViews upload(const Batch& batch, int64_t place = 0);
  /// Uploads a microbatch to a place, for training.
  TrainedBatch trained(const Batch& batch, int64_t index, int64_t place, const RouteMode& mode);
  /// What is called in the backward pass of the last microbatch; else empty.
  GradientsReady ready_after(int64_t index);
  void count_microbatch(const Batch& batch, const RouteMode& mode);
  /// The cross-entropies of a microbatch's targets, on the device. No gradient.
  View score_microbatch(const Batch& batch, const RouteMode& mode);
  void weigh_pairs_of(std::vector<Batch>& batches, int64_t step);
  void train_microbatch(const Batch& batch, int64_t index, const RouteMode& mode);
  /// All microbatches through the stages of a pipeline (step_stages.cpp).
  void train_in_stages(const std::vector<Batch>& batches, const std::vector<RouteMode>& modes);
  int64_t train_few(const Batch& batch, const RouteMode& mode);
  View tied(const std::vector<View>& views) const;
  void add_tied_gradients();
  void send_tied_weights();
  /// The parameters at this place of the model (Parameter::place): their gradients, or what the model computes with.
  std::vector<Rooted> trained_at(int64_t place, const std::vector<View>& views) const;
  void update_biases();
  StepReport read_report();
  Pass make_pass(bool accumulate_gradients, bool last, const RouteMode& mode, Arena& saved);

  ModelConfig config_;
  StepConfig step_;
  Device& device_;
  Backend& backend_;
  Communicator& communicator_;
  std::vector<Parameter> table_;
  const RankLayout layout_;
  std::vector<int> owners_;  // of the table
  std::vector<bool> owned_;
  std::optional<TiedRanks> tied_;
  StepMemory memory_;
  std::unique_ptr<Model> model_;
  ModelWeights gradient_weights_;
  std::vector<BatchPlace> places_;
  View row_loss_, gradient_scale_, inv_tokens_, norm_;
  View counts_, dropped_, losses_;
  BalanceSums sums_;
  double step_weight_ = 0;
  std::optional<PreferenceReport> preference_;  // of the step
  std::vector<int64_t> coming_;  // marks behind the weights of each place, from -1 on, that may still come from ranks
  Optimizer optimizer_;
};

}  // namespace moe
