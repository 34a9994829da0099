#pragma once
/// --cpu-moe and --n-cpu-moe: the layers whose routed experts the CPU computes beside a GPU.

#include <optional>

#include <CLI/CLI.hpp>

#include "cli/device_option.h"
#include "cli/lora_option.h"
#include "infer/expert_offload.h"
#include "infer/loaded_model.h"

namespace moe {

struct ExpertPlaceFlags {
  bool all = false;
  int64_t layers = 0;  ///< the first ones

  bool given() const { return all || layers > 0; }
};

void add_expert_place_options(CLI::App& command, ExpertPlaceFlags& flags);

/// What the model's weights need with these options. If they are not given and the device has memory of its own, the
/// experts of as many first layers are in the host's memory as `free` bytes (-1: not known) less `beside` ask for. A
/// UsageError that names `model` if the options are given for a model without routed experts.
WeightsSize placed_weights_size(const WeightSizes& sizes, const std::string& model, const ExpertPlaceFlags& flags,
                                const Device& device, int64_t free, int64_t beside);

/// "the CPU computes the routed experts of the first 12 layers (5.10 GiB of q4_0)"; "" if it computes none.
std::string expert_place_text(const WeightsSize& size);

/// Where a model computes. Without experts in the host's memory these are `compute`'s own device and backend. For one
/// thread at a time.
class ExpertPlace {
 public:
  ExpertPlace(Compute& compute, const WeightsSize& size);

  Device& device() const { return offload_ ? offload_->device() : *compute_.device; }
  Backend& backend() const { return offload_ ? offload_->backend() : *compute_.backend; }
  HostExperts host_experts() const;

 private:
  Compute& compute_;
  int64_t layers_;
  HostCompute host_;
  std::optional<ExpertOffload> offload_;
};

}  // namespace moe
