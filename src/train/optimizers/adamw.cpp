/// AdamW (Loshchilov and Hutter). Weight decay applies to matrices only.

#include "train/optimizer.h"

namespace moe {
namespace {

constexpr const char* kSlots[] = {"exp_avg", "exp_avg_sq"};

void update(const Update& step, const TrainedParameter& parameter) {
  const OptimizerConfig& config = step.config;
  step.backend.run(AdamW{.param = parameter.value,
                         .master = parameter.master,
                         .gradient = parameter.gradient,
                         .exp_avg = parameter.slots[0],
                         .exp_avg_sq = parameter.slots[1],
                         .gradient_scale = step.gradient_scale,
                         .learning_rate = static_cast<float>(step.learning_rate),
                         .beta1 = static_cast<float>(config.beta1),
                         .beta2 = static_cast<float>(config.beta2),
                         .eps = static_cast<float>(config.eps),
                         .weight_decay = static_cast<float>(parameter.info.decays ? config.weight_decay : 0.0),
                         .step = step.step});
}

constexpr OptimizerSetting kSettings[] = {&OptimizerConfig::beta1, &OptimizerConfig::beta2, &OptimizerConfig::eps,
                                          &OptimizerConfig::weight_decay};

}  // namespace

const UpdateRule kAdamWRule{.slots = kSlots, .update = update};
const OptimizerMethod kAdamW{.name = "adamw",
                             .rule_of = [](const Parameter&) -> const UpdateRule& { return kAdamWRule; },
                             .settings = kSettings};

}  // namespace moe
