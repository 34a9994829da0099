#include "train/step_memory.h"

#include <algorithm>

#include "tensor/unlimited.h"

namespace moe {

StepMemory::StepMemory(const std::vector<Parameter>& table, DType dtype,
                       const std::function<DType(const Parameter&)>& storage, const std::vector<bool>& owned,
                       int64_t waiting, const std::optional<MemoryPlan>& plan, Device& device)
    : device_(device) {
  const DType stat = stat_dtype(dtype);
  parameter_arena_ = allocate("parameters", plan, &MemoryPlan::parameters);
  allocate_gradients_and_saved(waiting, plan);
  optimizer_ = allocate("optimizer state", plan, &MemoryPlan::optimizer);
  batch_ = allocate("batch", plan, &MemoryPlan::batch);
  scratch_ = allocate("scratch", plan, &MemoryPlan::scratch);
  for (const Parameter& parameter : table) {
    parameters_.push_back(parameter_arena_->push(parameter.name, storage(parameter), parameter.shape));
  }
  for (size_t i = 0; i < table.size(); ++i) {
    const Parameter& parameter = table[i];
    Arena& arena = parameter.gradient_is_added ? *added_gradient_arena_ : *gradient_arena_;
    const Shape shape = parameter.trained_shape();
    gradients_.push_back(parameter.trained() ? arena.push("gradient of " + parameter.name, stat, shape) : View{});
    masters_.push_back(needs_master(dtype) && parameter.trained() && owned[i]
                           ? optimizer_->push("master of " + parameter.name, stat, shape)
                           : parameters_[i]);
  }
}

StepMemory::~StepMemory() {
  for (void* allocation : allocations_) device_.release(allocation);
}

std::unique_ptr<Arena> StepMemory::allocate(const char* name, const std::optional<MemoryPlan>& plan,
                                            int64_t MemoryPlan::*planned) {
  const size_t bytes = plan ? static_cast<size_t>((*plan).*planned) : kUnlimitedBytes;
  allocations_.push_back(device_.allocate(bytes, name));
  return std::make_unique<Arena>(name, allocations_.back(), bytes);
}

// One block: gradients that are added to, then saved activations, which overlap the memory of the other gradients.
void StepMemory::allocate_gradients_and_saved(int64_t waiting, const std::optional<MemoryPlan>& plan) {
  if (!plan) {
    added_gradient_arena_ = allocate("gradients", plan, &MemoryPlan::gradients);
    gradient_arena_ = allocate("gradients", plan, &MemoryPlan::gradients);
    for (int64_t i = 0; i < (waiting == 1 ? 1 : waiting + 1); ++i) {
      saved_.push_back(allocate("saved activations", plan, &MemoryPlan::saved));
    }
    return;
  }
  const auto bytes = [](int64_t count) { return static_cast<size_t>(count); };
  const size_t added = bytes(plan->added_gradients), alone = bytes(plan->saved_alone());
  allocations_.push_back(device_.allocate(bytes(plan->gradients) + alone, "gradients and saved activations"));
  char* const block = static_cast<char*>(allocations_.back());
  added_gradient_arena_ = std::make_unique<Arena>("gradients", block, added);
  MOE_CHECK(plan->waiting == waiting);
  for (int64_t i = 0; i < waiting; ++i) {
    saved_.push_back(std::make_unique<Arena>("saved activations", block + added + bytes(i * plan->saved_each()),
                                             bytes(plan->saved_each())));
  }
  if (waiting > 1) {
    const size_t before = bytes(waiting * plan->saved_each());
    saved_.push_back(
        std::make_unique<Arena>("recomputed activations", block + added + before, bytes(plan->saved) - before));
  }
  gradient_arena_ = std::make_unique<Arena>("gradients", block + added + alone, bytes(plan->gradients) - added);
}

MemoryPlan StepMemory::peaks() const {
  const auto peak = [](const std::unique_ptr<Arena>& arena) { return static_cast<int64_t>(arena->peak_bytes()); };
  const int64_t added = peak(added_gradient_arena_);
  MemoryPlan held;
  held.parameters = peak(parameter_arena_);
  held.gradients = added + peak(gradient_arena_);
  held.added_gradients = added;
  held.optimizer = peak(optimizer_);
  held.batch = peak(batch_);
  int64_t each = 0;
  held.waiting = std::max<int64_t>(1, static_cast<int64_t>(saved_.size()) - 1);
  for (int64_t i = 0; i < held.waiting; ++i) each = std::max(each, peak(saved_[static_cast<size_t>(i)]));
  if (held.waiting > 1) held.recomputed = peak(saved_.back());
  held.saved = held.waiting * each + held.recomputed;
  held.scratch = peak(scratch_);
  held.saved_at_peak = saved_[0]->at_peak();
  held.scratch_at_peak = scratch_->at_peak();
  return held;
}

}  // namespace moe
