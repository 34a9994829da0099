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

[[noreturn]] void refuse_experts(const ModelConfig& config, const std::string& model, const InferenceRanksFlags& flags,
                                 int ranks) {
  const std::string experts = counted(config.n_routed_experts, "routed expert");
  const bool several = config.n_routed_experts > 1;
  if (flags.expert_ranks > 0) {
    fail_usage("--expert-parallel {}: {} has {}, which so many ranks cannot divide evenly; {}", flags.expert_ranks,
               model, experts, several ? "use " + divisors_text(config.n_routed_experts) + ", or 1" : "use 1");
  }
  const std::string layers = "--expert-parallel 1, with which the ranks divide the layers";
  fail_usage("--ranks {}: {} has {}, which so many ranks cannot divide evenly; use {}", ranks, model, experts,
             several ? divisors_text(config.n_routed_experts) + ", or " + layers : layers);
}

[[noreturn]] void refuse_stages(const ModelConfig& config, const std::string& model, const Layout& layout) {
  const int64_t layers = config.num_hidden_layers;
  if (layout.expert == 1) {
    fail_usage("--ranks {}: {} has {}{}, of which each rank needs one; use --ranks {}", layout.ranks(), model,
               config.moe_layers() == 0 ? "no routed experts and " : "", counted(layers, "layer"), layers);
  }
  fail_usage(
      "--ranks {} with --expert-parallel {}: {} has {}, and each of {} stages needs one; use at most --ranks {}, or a "
      "larger --expert-parallel",
      layout.ranks(), layout.expert, model, counted(layers, "layer"), layout.pipeline, layers * layout.expert);
}

}  // namespace

void add_inference_ranks_options(CLI::App& command, InferenceRanksFlags& flags) {
  constexpr WholeNumbers kRanks{1, 1024};
  add_number(command, "--ranks", flags.ranks, kRanks,
             "processes that divide the routed experts of each layer among them, or the layers of a dense model, each "
             "with a GPU or a part of the processors");
  add_number(command, "--expert-parallel", flags.expert_ranks, kRanks,
             "ranks that divide the routed experts of each layer; it divides --ranks, and the groups of so many ranks "
             "divide the layers (default: all ranks; 1 for a dense model)",
             false);
}

void check_inference_ranks(const ProcessRanks& processes, const InferenceRanksFlags& flags,
                           const ExpertPlaceFlags& experts, const DeviceOptions& device) {
  const int size = processes.size();
  if (flags.expert_ranks > 0 && size % flags.expert_ranks != 0) {
    fail_usage("--expert-parallel {}: there {}, expected a multiple of {}; change --ranks or --expert-parallel",
               flags.expert_ranks, size == 1 ? "is 1 rank" : fmt::format("are {} ranks", size), flags.expert_ranks);
  }
  if (size == 1) return;
  if (experts.given()) {
    fail_usage("--ranks {} with {}: ranks keep their routed experts on their own devices; leave out one of the two",
               size, experts.all ? "--cpu-moe" : "--n-cpu-moe");
  }
  processes.check_gpus(device);
}

void InferenceRanks::divide(const ModelConfig& config, const std::string& model, const InferenceRanksFlags& flags,
                            bool invariant) {
  if (size() == 1) return;
  const bool has_experts = config.moe_layers() > 0;
  const int expert_ranks = flags.expert_ranks > 0 ? flags.expert_ranks : has_experts ? size() : 1;
  if (expert_ranks > 1 && !has_experts) {
    fail_usage("--expert-parallel {}: {} has no routed experts; leave the option out, and the ranks divide the layers",
               expert_ranks, model);
  }
  if (expert_ranks > 1 && !divides_experts(config, expert_ranks)) refuse_experts(config, model, flags, size());
  layout_ = {.expert = expert_ranks, .pipeline = size() / expert_ranks};
  if (layout_.pipeline > config.num_hidden_layers) refuse_stages(config, model, layout_);
  // The sum of two numbers does not depend on their order, that of three does.
  if (invariant && expert_ranks > 2 && compute_.kind == DeviceKind::cuda) {
    fail_usage(
        "--ranks {} with --batch-invariant: how NCCL adds up the outputs of the experts of more than two GPUs depends "
        "on the batch; use --expert-parallel 2 or 1, or leave out one of the two",
        size());
  }
}

InferenceRanks::Largest InferenceRanks::largest(const WeightSizes& whole,
                                                const std::function<int64_t(const HeldModel&)>& beside) const {
  std::optional<Largest> most;
  int64_t most_bytes = 0;
  for (const HeldModel& held : HeldModel(whole.config(), layout_, 0).stages()) {
    Largest one{whole.of_rank(layout_, held.rank), beside(held)};
    const int64_t bytes = one.sizes.of().bytes + one.beside;
    if (most && bytes <= most_bytes) continue;
    most = std::move(one);
    most_bytes = bytes;
  }
  return *most;
}

int64_t InferenceRanks::free_bytes(int64_t limit) const {
  const Device& device = *compute_.device;
  const int64_t limited = moe::free_bytes(device, limit);
  const int64_t part = processes_.part_of(moe::free_bytes(device, 0), compute_.kind);
  return part < 0 ? limited : std::min(part, limited);
}

WeightsSize InferenceRanks::placed(const Largest& largest, const std::string& model, const ExpertPlaceFlags& flags,
                                   int64_t free) const {
  const auto& [sizes, beside] = largest;
  if (size() == 1) return placed_weights_size(sizes, model, flags, *compute_.device, free, beside);
  WeightsSize own = sizes.of();
  if (compute_.kind == DeviceKind::cpu || free < 0 || own.bytes + beside <= free) return own;
  fail(
      "the weights of {} of {} ranks need {} ({}), its cache and a pass {}, and {} are free; use more ranks, a smaller "
      "type (--dtype) or a shorter context (--context)",
      layout_.pipeline > 1 ? "the largest" : "each", size(), bytes_text(own.bytes), own.text, bytes_text(beside),
      bytes_text(free));
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
  return part_of(HeldModel(config, layout_, processes_.rank()), gpus_ ? *gpus_ : *hosts_);
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
