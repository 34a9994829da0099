#pragma once
/// --ranks of commands that generate or evaluate: processes that divide the routed experts of a model among them, its
/// layers, or both. Rank 0 is the process that was typed. In generation the others do what it tells them
/// (infer/leader.h); in an evaluation all know what to do.

#include <functional>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/device_option.h"
#include "cli/expert_place.h"
#include "cli/process_ranks.h"
#include "infer/leader.h"
#include "infer/loaded_model.h"

namespace moe {

struct InferenceRanksFlags {
  int ranks = 1;
  int expert_ranks = 0;  ///< of --expert-parallel; 0: not given
};

/// Declares `--ranks` and `--expert-parallel`.
void add_inference_ranks_options(CLI::App& command, InferenceRanksFlags& flags);

/// What `ProcessRanks` does for such a command.
constexpr RankUse kInferenceRanks{.without_option = false, .after_loss = ""};

/// Refuses what several ranks cannot do, before a device or a model is looked at. `device` is this rank's.
void check_inference_ranks(const ProcessRanks& processes, const InferenceRanksFlags& flags,
                           const ExpertPlaceFlags& experts, const DeviceOptions& device);

/// For the main thread.
class InferenceRanks {
 public:
  /// Both must outlive it.
  InferenceRanks(ProcessRanks& processes, Compute& compute) : processes_(processes), compute_(compute) {}

  int size() const { return processes_.size(); }
  bool leads() const { return processes_.rank() == 0; }

  /// Decides which rank has what: without --expert-parallel all ranks divide the experts, or the layers of a model that
  /// has none. A UsageError names `model` if its experts, or its layers, do not divide. `invariant`: --batch-invariant.
  void divide(const ModelConfig& config, const std::string& model, const InferenceRanksFlags& flags, bool invariant);
  const Layout& layout() const { return layout_; }
  /// The rank whose weights with what is beside them are largest: what `beside` says of a rank's part.
  struct Largest {
    WeightSizes sizes;
    int64_t beside;
  };
  Largest largest(const WeightSizes& whole, const std::function<int64_t(const HeldModel&)>& beside) const;
  /// Bytes that a rank may use of its device now; -1: not known.
  int64_t free_bytes(int64_t limit) const;
  /// What the weights of a rank, the largest, need. With one rank this is placed_weights_size(). Several keep all
  /// weights on their devices: an Error says that they do not fit.
  WeightsSize placed(const Largest& largest, const std::string& model, const ExpertPlaceFlags& flags,
                     int64_t free) const;

  /// Meets the other ranks, and starts them if nobody has. All must have the same program, command line, model, weights
  /// and kind of processor: each makes the passes of rank 0 and must get the same bits. From then on a signal that
  /// ends rank 0 ends all at once, unless rank 0 handles it otherwise. Nothing happens with one rank.
  void connect(const std::string& model, const std::string& weights);
  /// For LoadedModel.
  ModelPart part(const ModelConfig& config) const;
  /// For ModelOnDevice. Null: there is one rank.
  Leader* leader() { return leader_ ? &*leader_ : nullptr; }
  /// The work of a rank that does not lead, to its end.
  void follow(LoadedModel& loaded, std::optional<DType> cache);
  /// At the end of rank 0's work, unless it threw.
  void end();

  /// "AMD EPYC 9B14, 1 thread on each of 2 ranks": what computes.
  std::string device_text() const;

 private:
  ProcessRanks& processes_;
  Compute& compute_;
  Layout layout_ = {};
  Communicator* hosts_ = nullptr;
  std::unique_ptr<Communicator> gpus_;  // null: the ranks compute on processors
  std::optional<Leader> leader_;
};

}  // namespace moe
