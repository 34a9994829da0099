#pragma once
/// One training step on one device: microbatches, losses, clipping, AdamW. Also the plan of its memory, which comes
/// from the same code, run over a null device. Use a step on one thread at a time.

#include <functional>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "batch/token_buffers.h"
#include "model/model.h"
#include "ops/count.h"
#include "ops/device.h"

namespace moe {

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  ///< on matrices only
  double clip = 1.0;          ///< largest global gradient norm; 0: no clipping
};

struct StepConfig {
  BalanceConfig balance;
  AdamWConfig optimizer;
  DType dtype = DType::f32;       ///< storage of weights and activations; bf16 keeps f32 master weights
  bool recompute = false;         ///< run each layer again in backward instead of keeping its activations
  bool choose_recompute = true;   ///< recompute is not settled yet (train/settle.h); a step does not read this
  int64_t microbatch_tokens = 0;  ///< rows times sequence length
  int64_t sequence_length = 0;
  int64_t microbatches = 1;                          ///< per step
  int64_t logits_per_chunk = Pass::kLogitsPerChunk;  ///< number computed at once (nn/head.h)
  uint64_t seed = 0;                                 ///< seed of the routers' draws
  std::vector<std::string> freeze = {};              ///< parameters that keep their values (train/freeze.h)
  int64_t second_stage = 0;                          ///< the first step of StableMoE's second stage; 0: there is none

  /// For a microbatch whose first token is token number `first_token` of the step.
  RouteMode mode(int64_t step, int64_t first_token) const;
};

/// Bytes by lifetime. `saved` lives from forward to backward, `scratch` within a block.
struct MemoryPlan {
  int64_t parameters = 0;
  int64_t gradients = 0;
  int64_t added_gradients = 0;  ///< the part of them that is set to 0 at the beginning of a step and then added to
  int64_t optimizer = 0;
  int64_t batch = 0;
  int64_t saved = 0;
  int64_t saved_in_gradients = 0;  ///< the part of `saved` that overlaps the gradients' memory (train/shared_memory.h)
  int64_t scratch = 0;
  std::vector<Arena::Buffer> saved_at_peak;
  std::vector<Arena::Buffer> scratch_at_peak;
  std::map<std::string, CountingBackend::Cost> costs;  ///< of one microbatch and the optimiser
  int64_t microbatch_flops = 0;

  /// The memory of saved activations outside the gradients' memory.
  int64_t saved_alone() const { return saved - saved_in_gradients; }
  int64_t total() const { return parameters + gradients + optimizer + batch + saved_alone() + scratch; }
};

/// The memory and costs of the step, without allocating anything.
MemoryPlan plan_training(const ModelConfig& config, const StepConfig& step);

/// The results of one step. Losses are those of the whole step; balance losses include alpha.
struct StepReport {
  double loss = 0;               ///< mean cross-entropy over the step's target tokens
  std::vector<double> losses;    ///< [MoE layers, kRouterLosses]
  double gradient_norm = 0;      ///< before clipping
  std::vector<int32_t> counts;   ///< [MoE layers, E]: tokens that chose each expert
  std::vector<int32_t> dropped;  ///< [MoE layers]: choices whose expert was full

  double router_loss(RouterLoss kind, int64_t moe_layer) const {
    return losses[static_cast<size_t>(moe_layer * kRouterLosses + static_cast<int64_t>(kind))];
  }
  /// Over all layers.
  double router_loss(RouterLoss kind) const;
};

class TrainingStep {
 public:
  /// Allocates everything. `plan` is plan_training of the same arguments. Weights are uninitialised.
  TrainingStep(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan, Device& device,
               Backend& backend);
  ~TrainingStep();
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  const std::vector<Parameter>& table() const { return table_; }
  /// In the order of the table: parameters (Parameter::storage), gradients (stat), master (stat; for bf16 a copy,
  /// otherwise the parameters themselves), exp_avg, exp_avg_sq (stat). A parameter that is not trained
  /// (StepConfig::freeze, or it has no gradient by nature) has no gradient and no moments, and is its own master.
  const std::vector<View>& parameters() const { return parameters_; }
  const std::vector<View>& gradients() const { return gradients_; }
  const std::vector<View>& masters() const { return masters_; }
  const std::vector<View>& exp_avg() const { return exp_avg_; }
  const std::vector<View>& exp_avg_sq() const { return exp_avg_sq_; }
  const Model& model() const { return *model_; }

  /// Draws the initial weights and sets the optimiser state to zero. Hash tables are balanced if `token_counts` (of the
  /// training text, by id) are given, else random. The threads of `pool` share the work (null: the calling thread does
  /// it alone); their number does not change the result.
  void initialize(uint64_t seed, double standard_deviation, std::span<const int64_t> token_counts = {},
                  ThreadPool* pool = nullptr);
  /// Call it after masters were set from outside: sets the parameters to their rounded copies.
  void parameters_from_masters();

  /// Computes the losses and gradients of step number `step` (from 1) over `microbatches` batches from `batch(index)`.
  /// Does not change the optimiser state. Step scope first runs a counting pass over all of them.
  void accumulate(const std::function<Batch(int64_t)>& batch, int64_t step = 1);
  /// Clips, updates the parameters as step number `step` (from 1), and reports. If the gradients' norm is not finite,
  /// no parameter and no optimiser state changes.
  StepReport update(int64_t step, double learning_rate);
  /// The gradients of the last step, and the current weights, that hold a value that is not finite: indices into the
  /// table, ascending.
  struct NotFinite {
    std::vector<size_t> gradients, weights;
  };
  NotFinite find_not_finite();

 private:
  friend MemoryPlan plan_training(const ModelConfig& config, const StepConfig& step);

  /// What the arenas have held at most; without costs.
  MemoryPlan peaks() const;
  std::unique_ptr<Arena> allocate(const char* name, int64_t planned);
  void allocate_gradients_and_saved(const MemoryPlan& plan);
  template <class ArenaOf>
  std::vector<View> push_like_parameters(const char* what, DType dtype, const ArenaOf& arena_of);
  void make_batch_buffers();
  void begin(int64_t targets, int64_t tokens);
  /// True if a counting pass comes before the step's microbatches. StableMoE's second stage has no losses and needs
  /// none.
  bool counts_first(const RouteMode& mode) const;
  TokenViews upload(const Batch& batch);
  void count_microbatch(const Batch& batch, const RouteMode& mode);
  void train_microbatch(const Batch& batch, int64_t index, const RouteMode& mode);
  void initialize_tables(uint64_t seed, std::span<const int64_t> token_counts);
  void update_biases();
  StepReport read_report();
  Pass make_pass(bool accumulate_gradients);

  ModelConfig config_;
  StepConfig step_;
  Device& device_;
  Backend& backend_;
  std::vector<Parameter> table_;
  std::vector<void*> allocations_;
  std::unique_ptr<Arena> parameter_arena_, added_gradient_arena_, gradient_arena_, optimizer_arena_, batch_arena_;
  std::unique_ptr<Arena> saved_, scratch_;
  std::vector<View> parameters_, gradients_, masters_, exp_avg_, exp_avg_sq_;
  std::unique_ptr<Model> model_;
  ModelWeights gradient_weights_;
  std::unique_ptr<TokenBuffers> tokens_;
  View group_, group_tokens_;
  View row_loss_, gradient_scale_, inv_tokens_, sum_squares_, norm_, clip_scale_;
  View counts_, dropped_, losses_;
  BalanceSums sums_;
  int64_t step_targets_ = 0;
};

}  // namespace moe
