#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ops/transfer.h"

namespace moe {

const OptimizerMethod* find_optimizer(std::string_view name) {
  const auto found =
      std::find_if(kOptimizers.begin(), kOptimizers.end(), [&](const auto* method) { return method->name == name; });
  return found == kOptimizers.end() ? nullptr : *found;
}

bool OptimizerMethod::uses(OptimizerSetting setting) const {
  return std::find(settings.begin(), settings.end(), setting) != settings.end();
}

Optimizer::Optimizer(const OptimizerConfig& config, const std::vector<Parameter>& table, const std::vector<bool>& owned,
                     StepMemory& memory, DType dtype)
    : config_(config), dtype_(dtype), owned_(owned) {
  const OptimizerMethod* const method = find_optimizer(config.kind);
  MOE_CHECK(method != nullptr);
  const DType stat = stat_dtype(dtype);
  for (size_t i = 0; i < table.size(); ++i) {
    if (!table[i].trained()) continue;
    const UpdateRule& rule = method->rule_of(table[i]);
    for (const char* name : rule.slots) {
      const bool known = std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.name == name; });
      if (!known) slots_.push_back({name, std::vector<View>(table.size())});
    }
    for (const ExpertRun& run : table[i].trained_runs()) add(i, table[i], run, rule, memory);
  }
  for (Slot& slot : slots_) {  // all tensors of a slot are adjacent
    for (size_t i = 0; i < table.size(); ++i) {
      if (!table[i].trained() || !owned[i]) continue;
      const auto names = method->rule_of(table[i]).slots;
      if (std::none_of(names.begin(), names.end(), [&](const char* name) { return slot.name == name; })) continue;
      slot.views[i] =
          memory.optimizer().push(fmt::format("{} of {}", slot.name, table[i].name), stat, table[i].trained_shape());
    }
  }
  for (size_t t = 0; t < trained_.size(); ++t) {
    if (!owned[indices_[t]]) continue;
    const int64_t rows = trained_[t].value.size(0);
    for (const char* name : rules_[t]->slots) {
      trained_[t].slots.push_back(slot(name)[indices_[t]].rows(begins_[t], rows));
    }
  }
  sum_squares_ = memory.batch().push("sum_squares", DType::f64, {1});
  clip_scale_ = memory.batch().push("clip_scale", stat, {1});
}

void Optimizer::add(size_t index, const Parameter& parameter, const ExpertRun& run, const UpdateRule& rule,
                    StepMemory& memory) {
  infos_.push_back(parameter);
  infos_.back().shape = parameter.shape.with_first(run.count);
  indices_.push_back(index);
  begins_.push_back(run.at);
  rules_.push_back(&rule);
  trained_.push_back(
      {.info = infos_.back(),
       .value = memory.parameters()[index].rows(run.first, run.count),
       .master = needs_master(dtype_) && owned_[index] ? memory.masters()[index].rows(run.at, run.count) : View{},
       .gradient = memory.gradients()[index].rows(run.at, run.count),
       .slots = {}});
}

const std::vector<View>& Optimizer::slot(std::string_view name) const {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.name == name; });
  MOE_CHECK(found != slots_.end());
  return found->views;
}

void Optimizer::clear(Backend& backend) {
  for (const TrainedParameter& parameter : trained_) {
    for (const View& slot : parameter.slots) backend.run(Fill{.x = slot, .value = 0});
  }
}

Optimizer::NotFinite Optimizer::find_not_finite(Device& device, Backend& backend) {
  const auto is_finite = [&](const View& view) {
    backend.run(Fill{.x = sum_squares_, .value = 0});
    backend.run(SumSquares{.x = view, .sum = sum_squares_});
    return std::isfinite(download_doubles(device, sum_squares_)[0]);
  };
  NotFinite found;
  for (size_t t = 0; t < trained_.size(); ++t) {
    const auto note = [&](const View& view, std::vector<size_t>& to) {
      const bool known = !to.empty() && to.back() == indices_[t];
      if (!known && !is_finite(view)) to.push_back(indices_[t]);
    };
    note(trained_[t].gradient, found.gradients);
    note(trained_[t].exact(), found.weights);
  }
  return found;
}

void Optimizer::sum_squares(Backend& backend, bool experts_added) {
  for (size_t t = 0; t < trained_.size(); ++t) {
    const TrainedParameter& parameter = trained_[t];
    const bool expert = parameter.info.kind == ParameterKind::routed_experts;
    if (experts_added && expert && parameter.info.adapter == AdapterPart::none) continue;  // by their products
    if (owned_[indices_[t]]) backend.run(SumSquares{.x = parameter.gradient, .sum = sum_squares_});
  }
}

void Optimizer::update(Device& device, Backend& backend, Arena& scratch, int64_t step, double learning_rate, View norm,
                       const std::function<bool(const Parameter&)>& rests, const std::function<void(size_t)>& updated) {
  backend.run(ClipScale{
      .sum_squares = sum_squares_, .max_norm = static_cast<float>(config_.clip), .norm = norm, .scale = clip_scale_});
  const Update update{.device = device,
                      .backend = backend,
                      .scratch = scratch,
                      .config = config_,
                      .gradient_scale = clip_scale_,
                      .dtype = dtype_,
                      .learning_rate = learning_rate,
                      .step = step};
  for (size_t t = 0; t < trained_.size(); ++t) {
    const size_t index = indices_[t];
    if (owned_[index] && !rests(trained_[t].info)) {
      const Arena::Frame frame(scratch);
      rules_[t]->update(update, trained_[t]);
    }
    if (t + 1 == trained_.size() || indices_[t + 1] != index) updated(index);
  }
}

}  // namespace moe
