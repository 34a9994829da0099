#pragma once
/// The optimiser: how gradients change weights. Each parameter has a rule, which says what it remembers from step to
/// step and how one step changes it. An optimiser is a choice of a rule for each parameter.
/// docs/add-an-optimiser.md describes how to add one.

#include <array>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "train/step_memory.h"

namespace moe {

struct OptimizerConfig {
  std::string kind = "adamw";  ///< the name of one of kOptimizers
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  ///< on matrices only
  double momentum = 0.95;     ///< Muon's, of the mean gradient
  double clip = 1.0;          ///< largest global gradient norm; 0: no clipping
};

/// One step of the optimiser, for all parameters.
struct Update {
  Device& device;
  Backend& backend;
  Arena& scratch;  ///< memory within the update of one parameter
  const OptimizerConfig& config;
  View gradient_scale;  ///< stat [1]: the factor of every gradient. If it is not finite, nothing may change
  DType dtype;          ///< of the weights and of products
  double learning_rate;
  int64_t step;  ///< from 1
};

/// A parameter that is trained, or some experts of it that follow each other.
struct TrainedParameter {
  const Parameter& info;    ///< its shape is that of `value`
  View value;               ///< the weights that the model computes with
  View master;              ///< stat: what a step changes; absent if that is `value` itself
  View gradient;            ///< stat
  std::vector<View> slots;  ///< stat, of the parameter's shape: one for each name of UpdateRule::slots

  const View& exact() const { return master ? master : value; }
};

/// How a parameter is updated.
struct UpdateRule {
  /// The names of the tensors that it remembers. They begin as zeros. A checkpoint has them as NAME.slot.
  std::span<const char* const> slots;
  void (*update)(const Update& step, const TrainedParameter& parameter);
};

/// A setting that one optimiser uses and another may not. All of them have a key (train/run_keys.cpp).
using OptimizerSetting = double OptimizerConfig::*;

struct OptimizerMethod {
  const char* name;  ///< the value of optimizer.kind
  const UpdateRule& (*rule_of)(const Parameter& parameter);
  /// All settings that its rules read. A run file with another value for any other setting is refused.
  std::span<const OptimizerSetting> settings;

  bool uses(OptimizerSetting setting) const;
};

extern const OptimizerMethod kAdamW, kMuon;
inline constexpr std::array kOptimizers{&kAdamW, &kMuon};
/// AdamW, for what an optimiser of matrices leaves out.
extern const UpdateRule kAdamWRule;

/// The state of the optimiser and its steps, for all parameters of a run. For one thread at a time.
class Optimizer {
 public:
  /// Takes its state from `memory`. `owned`: of the table, what it updates. `table` and `memory` must outlive this
  /// object.
  Optimizer(const OptimizerConfig& config, const std::vector<Parameter>& table, const std::vector<bool>& owned,
            StepMemory& memory, DType dtype);

  /// A kind of remembered tensors, in the order of the table, of the parameters' trained_shape(). A view is absent
  /// where the parameter has none, or is not owned.
  struct Slot {
    std::string name;
    std::vector<View> views;
  };
  const std::vector<Slot>& slots() const { return slots_; }
  /// The slot with this name. It must exist.
  const std::vector<View>& slot(std::string_view name) const;

  /// Sets the state to zero.
  void clear(Backend& backend);

  /// f64 [1]: the sum of squares of the gradients. A step begins by setting it to zero; the products of the last
  /// microbatch may add the squares of the routed experts' gradients (Pass::gradient_squares), and sum_squares() those
  /// of the rest.
  View gradient_squares() const { return sum_squares_; }
  /// Adds the squares of the owned gradients. `experts_added`: those of the routed experts are there already.
  void sum_squares(Backend& backend, bool experts_added);

  /// One step: the global norm of all gradients (into `norm`, stat [1]) from gradient_squares(), clipping, and the
  /// update of every owned parameter for which `rests` is false. If the norm is not finite, no parameter and no state
  /// changes. Calls `updated` with the index of each trained parameter, in the order of the table, behind its update.
  void update(Device& device, Backend& backend, Arena& scratch, int64_t step, double learning_rate, View norm,
              const std::function<bool(const Parameter&)>& rests, const std::function<void(size_t)>& updated);

  /// The gradients of the last step, and the current weights, that hold a value that is not finite: indices into the
  /// table, ascending.
  struct NotFinite {
    std::vector<size_t> gradients, weights;
  };
  NotFinite find_not_finite(Device& device, Backend& backend);

 private:
  void add(size_t index, const Parameter& parameter, const ExpertRun& run, const UpdateRule& rule, StepMemory& memory);

  OptimizerConfig config_;
  DType dtype_;
  std::vector<Slot> slots_;
  std::deque<Parameter> infos_;  // of trained_; each stays where it is
  std::vector<TrainedParameter> trained_;
  std::vector<const UpdateRule*> rules_;  // of trained_
  std::vector<size_t> indices_;           // of trained_ in the table
  std::vector<bool> owned_;               // of the table
  std::vector<int64_t> begins_;           // of trained_: the first row in gradients, masters and slots
  View sum_squares_, clip_scale_;
};

/// The method with this name; null if there is none.
const OptimizerMethod* find_optimizer(std::string_view name);

}  // namespace moe
