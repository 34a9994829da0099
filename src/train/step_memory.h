#pragma once
/// The device memory of a training step, by lifetime, and its plan.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "ops/count.h"
#include "ops/device.h"
#include "tensor/arena.h"

namespace moe {

/// Bytes by lifetime. `saved` lives from forward to backward, `scratch` within a block.
struct MemoryPlan {
  int64_t parameters = 0;
  int64_t gradients = 0;
  int64_t added_gradients = 0;  ///< the part of them that is set to 0 at the beginning of a step and then added to
  int64_t optimizer = 0;
  int64_t batch = 0;
  int64_t saved = 0;
  int64_t waiting = 1;             ///< microbatches that wait for their backward pass, with the one that is computed
  int64_t recomputed = 0;          ///< the part of `saved` that only the computed one needs; 0 if no other waits
  int64_t saved_in_gradients = 0;  ///< the part of `saved` that overlaps the gradients' memory (train/shared_memory.h)
  int64_t scratch = 0;
  std::vector<Arena::Buffer> saved_at_peak;
  std::vector<Arena::Buffer> scratch_at_peak;
  std::map<std::string, CountingBackend::Cost> costs;  ///< of one microbatch
  int64_t microbatch_flops = 0;
  int64_t optimizer_flops = 0;  ///< of the products in one update

  /// The part of `saved` of each microbatch that waits.
  int64_t saved_each() const {
    constexpr auto kAlignment = static_cast<int64_t>(Arena::kAlignment);
    return (saved - recomputed) / waiting / kAlignment * kAlignment;
  }
  /// The memory of saved activations outside the gradients' memory.
  int64_t saved_alone() const { return saved - saved_in_gradients; }
  int64_t total() const { return parameters + gradients + optimizer + batch + saved_alone() + scratch; }
};

/// Owns the memory of a step: one arena for each lifetime, and the views that last for the whole run.
/// For one thread at a time.
class StepMemory {
 public:
  /// Allocates the planned bytes. Without a plan the device must be a null device, and peaks() makes the plan.
  /// `dtype` is the run's, `storage` gives each parameter's. `owned`: of the table, whose optimiser state is here.
  /// `waiting`: MemoryPlan::waiting.
  StepMemory(const std::vector<Parameter>& table, DType dtype, const std::function<DType(const Parameter&)>& storage,
             const std::vector<bool>& owned, int64_t waiting, const std::optional<MemoryPlan>& plan, Device& device);
  ~StepMemory();
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  /// In the order of the table: parameters (of their storage), gradients (stat), master (stat; for bf16 a copy,
  /// otherwise the parameters themselves). A parameter that is not trained (StepConfig::freeze, or it has no gradient
  /// by nature) has no gradient, and is its own master. So is one that is not owned. If only some of its experts train,
  /// the gradient has trained_shape(), and so has a master that is a copy.
  const std::vector<View>& parameters() const { return parameters_; }
  const std::vector<View>& gradients() const { return gradients_; }
  const std::vector<View>& masters() const { return masters_; }

  Arena& optimizer() { return *optimizer_; }
  Arena& batch() { return *batch_; }
  /// Of one of the microbatches that wait.
  Arena& saved(int64_t waiting = 0) { return *saved_[static_cast<size_t>(waiting)]; }
  /// What recompute makes again: the same memory if only one microbatch waits.
  Arena& again() { return *saved_.back(); }
  Arena& scratch() { return *scratch_; }
  /// The gradients that the first microbatch overwrites; saved activations may overlap them.
  const Arena& overwritten_gradients() const { return *gradient_arena_; }

  /// What the arenas have held at most; without costs.
  MemoryPlan peaks() const;

 private:
  std::unique_ptr<Arena> allocate(const char* name, const std::optional<MemoryPlan>& plan, int64_t MemoryPlan::*bytes);
  void allocate_gradients_and_saved(int64_t waiting, const std::optional<MemoryPlan>& plan);

  Device& device_;
  std::vector<void*> allocations_;
  std::unique_ptr<Arena> parameter_arena_, added_gradient_arena_, gradient_arena_, optimizer_, batch_, scratch_;
  std::vector<std::unique_ptr<Arena>> saved_;  // of each microbatch that waits; with several, then what is made again
  std::vector<View> parameters_, gradients_, masters_;
};

}  // namespace moe
