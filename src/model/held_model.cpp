#include "model/held_model.h"

#include "base/error.h"

namespace moe {

LayerRange HeldModel::layers() const {
  MOE_CHECK(layout.data == 1);
  return stage_layers(config.num_hidden_layers, layout.pipeline)[static_cast<size_t>(position_of(layout, rank).stage)];
}

LayerRange HeldModel::experts() const {
  const int64_t each = config.n_routed_experts / layout.expert, first = position_of(layout, rank).expert * each;
  return {first, first + each};
}

void HeldModel::keep(std::vector<Parameter>& table) const {
  divide_experts(table, position_of(layout, rank).expert, layout.expert);
  if (layout.pipeline > 1) keep_stage(table, config, layers());
}

std::vector<HeldModel> HeldModel::stages() const {
  std::vector<HeldModel> all;
  for (int64_t stage = 0; stage < layout.pipeline; ++stage) {
    all.emplace_back(config, layout, stage * layout.stage_ranks());
  }
  return all;
}

}  // namespace moe
