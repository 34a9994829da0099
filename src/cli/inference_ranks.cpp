#include "cli/inference_ranks.h"

#include <algorithm>
#include <csignal>

#include "base/error.h"
#include "base/units.h"
#include "base/words.h"
#include "cli/build_facts.h"
#include "cli/memory_option.h"
#include "cli/number_option.h"
#include "infer/follower.h"
#include "model/layout.h"
#include "train/amounts.h"
#include "train/ranks.h"

namespace moe {
namespace {

/// The numbers of ranks, from 2 on, that could divide so many experts.
std::string divisors_text(int64_t experts) {
  std::vector<std::string> divisors;
  for (int64_t ranks = 2; ranks <= experts; ++ranks) {
    if (experts % ranks == 0) divisors.push_back(std::to_string(ranks));
  }
  return alternatives(divisors);
}

}  // namespace

void add_inference_ranks_option(CLI::App& command, int& ranks) {
  add_number(command, "--ranks", ranks, {1, 1024},
             "processes that divide the routed experts of each layer among them, or the layers of a dense model, each "
             "with a GPU or a part of the processors");
}

void check_inference_ranks(const ProcessRanks& processes, const ExpertPlaceFlags& experts, const DeviceOptions& device,
                           bool invariant) {
  const int size = processes.size();
  if (size == 1) return;
  if (experts.given()) {
    fail_usage("--ranks {} with {}: ranks keep their routed experts on their own devices; leave out one of the two",
               size, experts.all ? "--cpu-moe" : "--n-cpu-moe");
  }
  // The sum of two numbers does not depend on their order, that of three does.
  if (invariant && size > 2 && device_kind(device) == DeviceKind::cuda) {
    fail_usage(
        "--ranks {} with --batch-invariant: how NCCL adds up the outputs of more than two GPUs depends on the batch; "
        "use --ranks 2, or leave out one of the two",
        size);
  }
  processes.check_gpus(device);
}

void InferenceRanks::divide(WeightSizes& sizes, const std::string& model) const {
  if (size() == 1) return;
  const ModelConfig& config = sizes.config();
  if (config.moe_layers() == 0) {
    if (config.num_hidden_layers < size()) {
      fail_usage("--ranks {}: {} has no routed experts and {}, of which each rank needs one; use --ranks {}", size(),
                 model, counted(config.num_hidden_layers, "layer"), config.num_hidden_layers);
    }
    return sizes.divide_layers_among(size());
  }
  if (!divides_experts(config, size())) {
    fail_usage("--ranks {}: {} has {}, which so many ranks cannot divide evenly; {}", size(), model,
               counted(config.n_routed_experts, "routed expert"),
               config.n_routed_experts > 1 ? "use " + divisors_text(config.n_routed_experts) : "leave out --ranks");
  }
  sizes.divide_among(size());
}

int64_t InferenceRanks::free_bytes(int64_t limit) const {
  const Device& device = *compute_.device;
  const int64_t limited = moe::free_bytes(device, limit);
  const int64_t part = processes_.part_of(moe::free_bytes(device, 0), compute_.kind);
  return part < 0 ? limited : std::min(part, limited);
}

WeightsSize InferenceRanks::placed(const WeightSizes& sizes, const std::string& model, const ExpertPlaceFlags& flags,
                                   int64_t free, int64_t beside) const {
  if (size() == 1) return placed_weights_size(sizes, model, flags, *compute_.device, free, beside);
  WeightsSize whole = sizes.of();
  if (compute_.kind == DeviceKind::cpu || free < 0 || whole.bytes + beside <= free) return whole;
  fail(
      "the weights of each of {} ranks need {} ({}), its cache and a pass {}, and {} are free; use more ranks, a "
      "smaller "
      "type (--dtype) or a shorter context (--context)",
      size(), bytes_text(whole.bytes), whole.text, bytes_text(beside), bytes_text(free));
}

void InferenceRanks::connect(const std::string& model, const std::string& weights) {
  if (size() == 1) return;
  // Ctrl-C at a terminal goes to every rank of it. Rank 0 decides what it means.
  if (leads()) {
    ProcessRanks::end_all_on_signals();
  } else {
    std::signal(SIGINT, SIG_IGN);
  }
  hosts_ = &processes_.connect();
  std::vector<std::string> words = own_command_line();
  words.erase(words.begin());  // the program's own name
  check_same_start(*hosts_, host_name(),
                   {{"the program", fmt::format("moe {} (commit {})", kBuildFacts.version, kBuildFacts.commit)},
                    {"the command line", fmt::format("{}", fmt::join(words, " "))},
                    {"the model", model},
                    {"the weights", weights},
                    {"the processor", compute_.device->info().name}});
  gpus_ = processes_.connect_gpus(compute_);
  if (leads()) leader_.emplace(*hosts_);
}

ModelPart InferenceRanks::part(const ModelConfig& config) const {
  if (hosts_ == nullptr) return {};
  Communicator* const communicator = gpus_ ? gpus_.get() : hosts_;
  if (config.moe_layers() > 0) return {.experts = {communicator, hosts_->everyone()}};
  const auto ranges = stage_layers(config.num_hidden_layers, size());
  return {.stage = {.communicator = communicator,
                    .group = hosts_->everyone(),
                    .layers = ranges[static_cast<size_t>(processes_.rank())]}};
}

void InferenceRanks::follow(LoadedModel& loaded, std::optional<DType> cache) {
  moe::follow(*hosts_, loaded, *compute_.device, *compute_.backend, cache);
}

void InferenceRanks::end() {
  if (leader_) leader_->end();
}

std::string InferenceRanks::device_text() const {
  return device_name(compute_) + (size() == 1 ? "" : fmt::format(" on each of {} ranks", size()));
}

}  // namespace moe
