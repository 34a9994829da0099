#include "cli/expert_place.h"

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/open_model.h"
#include "cli/number_option.h"

namespace moe {

void add_expert_place_options(CLI::App& command, ExpertPlaceFlags& flags) {
  constexpr int64_t kMostLayers = 1 << 20;
  CLI::Option* const all =
      command.add_flag("--cpu-moe", flags.all, "the CPU computes the routed experts of all layers, and keeps them");
  add_number(command, "--n-cpu-moe", flags.layers, {0, kMostLayers},
             "the same for the first N layers alone; without both options so many layers that the rest fits the GPU")
      ->excludes(all);
}

WeightsSize placed_weights_size(const WeightSizes& sizes, const std::string& model, const ExpertPlaceFlags& flags,
                                const Device& device, int64_t free, int64_t beside) {
  if (!flags.given()) {
    WeightsSize whole = sizes.of();
    if (device.info().is_host || free < 0 || whole.bytes + beside <= free) return whole;
    return sizes.fitting(free - beside, 0);
  }
  if (sizes.config().moe_layers() == 0) {
    fail_usage("{}: {} has no routed experts; leave the option out", flags.all ? "--cpu-moe" : "--n-cpu-moe", model);
  }
  const int64_t layers = sizes.config().num_hidden_layers;
  return sizes.of(flags.all ? layers : std::min(flags.layers, layers));
}

std::string expert_place_text(const WeightsSize& size) {
  if (size.host_bytes == 0) return {};
  return fmt::format("the CPU computes the routed experts of the first {} ({})", counted(size.host_layers, "layer"),
                     size.host_text);
}

ExpertPlace::ExpertPlace(Compute& compute, const WeightsSize& size)
    : compute_(compute), layers_(size.host_bytes > 0 ? size.host_layers : 0) {
  if (layers_ == 0) return;
  host_ = make_host_compute(compute);
  offload_.emplace(*compute.device, *compute.backend, *host_.device, *host_.backend);
}

HostExperts ExpertPlace::host_experts() const {
  return {.layers = layers_, .device = offload_ ? &offload_->host() : nullptr};
}

}  // namespace moe
