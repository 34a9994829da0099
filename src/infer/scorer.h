#pragma once
/// A model without gradients over packed documents: losses, logits, and the experts that were chosen.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "batch/batch.h"
#include "infer/model_on_device.h"

namespace moe {

/// The experts that tokens chose, summed over batches.
struct ChoiceCounts {
  std::vector<int64_t> chosen;   ///< [MoE layers, groups, E]
  std::vector<int64_t> dropped;  ///< [MoE layers]: choices whose expert was full
};

/// Whether a Scorer keeps the choices themselves, besides their sums, and their gates.
enum class ChosenIds { forgotten, kept, with_gates };

/// The model's numbers are not finite: `where` names the first place, such as "the outputs of layer 2 (of 4 from 0)".
struct NotFinite : Error {
  NotFinite(std::string first, const std::string& what) : Error(what), where(std::move(first)) {}
  std::string where;
};

/// Scores packed microbatches of up to `max_tokens` tokens in rows of `row_length` (0: one row). Use it on one thread
/// at a time.
class Scorer {
 public:
  /// `groups`: if choices are counted, the largest number of groups among the tokens of one batch.
  Scorer(const ModelOnDevice& runtime, int64_t max_tokens, int64_t row_length = 0, ChosenIds ids = ChosenIds::forgotten,
         int64_t groups = 1);
  ~Scorer();

  /// Bytes that a scorer of these sizes allocates. Nothing is allocated.
  static int64_t bytes(const ModelConfig& config, DType dtype, int64_t max_tokens, int64_t row_length = 0,
                       ChosenIds ids = ChosenIds::forgotten, int64_t groups = 1);
  /// Of what it has allocated, the bytes that its passes have used so far.
  int64_t used_bytes() const;

  /// The cross-entropy of each token's target, 0 where it has none. With `counts` adds, for each token t with
  /// group[t] >= 0, its choices of experts to counts.chosen[layer, group[t]], and what was dropped.
  std::vector<float> losses(const Batch& batch);
  std::vector<float> losses(const Batch& batch, const std::vector<int32_t>& group, int64_t groups,
                            ChoiceCounts& counts);
  /// The same; calls keep(i, stream) with the residual stream [T, D], as the device stores it, before layer i, for
  /// every layer, and after the last one.
  using KeepStream = std::function<void(int64_t, View)>;
  std::vector<float> losses(const Batch& batch, const std::vector<int32_t>& group, int64_t groups, ChoiceCounts& counts,
                            const KeepStream& keep);
  /// The losses of a batch whose residual stream before layer `first` is `stream`, its bytes as the device stores it.
  /// `model` computes the layers from there on. It has the sizes of the scorer's model, whose weights it may share.
  /// Choices are neither counted nor kept.
  std::vector<float> losses_from(const Model& model, const Batch& batch, int64_t first, std::span<const char> stream);
  /// The experts that each token of the last losses() call chose, before any was dropped: [MoE layers, T, S]; -1: none,
  /// also for all padding. Only for a Scorer that keeps them.
  std::vector<int32_t> chosen_ids();
  /// The gates of the same choices, in the same order; of a slot without an expert, any number. Only for a Scorer that
  /// keeps them.
  std::vector<float> chosen_gates();
  /// Calls use(first_row, rows, values) with consecutive blocks of logits [rows, V], in f32.
  void logits(const Batch& batch, const std::function<void(int64_t, int64_t, const float*)>& use);
  /// The same, after calls of watch(i, values) with the residual stream [T, D] in f32: before the first layer (i = 0),
  /// after it (1), and so on.
  void trace(const Batch& batch, const std::function<void(int64_t, const std::vector<float>&)>& watch,
             const std::function<void(int64_t, int64_t, const float*)>& use);

  /// Of a batch whose losses or logits are not finite: throws a NotFinite that names the first layer whose output is
  /// not.
  [[noreturn]] void fail_not_finite(const Batch& batch);

 private:
  struct Memory;
  /// Of the residual stream `h` after the last layer.
  std::vector<float> losses_of(const Model& model, Pass& pass, const TokenViews& tokens, View h);

  ModelOnDevice runtime_;
  int64_t most_groups_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace moe
