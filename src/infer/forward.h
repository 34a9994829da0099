#pragma once
/// Running a model without gradients: over packed documents (scores, logits), or with a cache of keys and values
/// (generation).

#include <functional>
#include <memory>
#include <span>

#include "base/file.h"
#include "infer/switches.h"
#include "infer/token_buffers.h"
#include "model/model.h"

namespace moe {

/// A model's weights on a device.
class LoadedModel {
 public:
  /// Reads a model folder, or a GGUF file. Weights are stored as `weights`: f32, bf16, or what the CPU
  /// alone computes with, f16 and blocks. config() has the switches in it.
  LoadedModel(const fs::path& path, DType weights, Device& device, const RoutingSwitches& switches = {});
  ~LoadedModel();
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  /// Uses the same weights with other switches. References to the old model() and config() become invalid. An error
  /// changes nothing.
  void set_switches(const RoutingSwitches& switches);

  const ModelConfig& config() const { return model_->config(); }
  const Model& model() const { return *model_; }
  /// Of activations beside these weights.
  DType dtype() const { return dtype_; }

 private:
  Device& device_;
  DType dtype_;
  ModelConfig own_;       // the configuration without switches
  ModelWeights weights_;  // the weights without switches
  void* memory_ = nullptr;
  void* masks_ = nullptr;
  std::unique_ptr<Model> model_;
};

/// Where a model runs. All members must outlive what is made from them.
struct Runtime {
  const Model& model;
  DType dtype;  ///< of activations
  Device& device;
  Backend& backend;
};

/// The experts that tokens chose, summed over batches.
struct ChoiceCounts {
  std::vector<int64_t> chosen;   ///< [MoE layers, groups, E]
  std::vector<int64_t> dropped;  ///< [MoE layers]: choices whose expert was full
};

/// Whether a Scorer keeps the choices themselves, besides their sums.
enum class ChosenIds { forgotten, kept };

/// Scores packed microbatches of up to `max_tokens` tokens in rows of `row_length` (0: one row). Use it on one thread
/// at a time.
class Scorer {
 public:
  /// `groups`: if choices are counted, the largest number of groups among the tokens of one batch.
  Scorer(const Runtime& runtime, int64_t max_tokens, int64_t row_length = 0, ChosenIds ids = ChosenIds::forgotten,
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
  /// The experts that each token of the last losses() call chose, before any was dropped: [MoE layers, T, S]; -1: none,
  /// also for all padding. Only for a Scorer that keeps them.
  std::vector<int32_t> chosen_ids();
  /// Calls use(first_row, rows, values) with consecutive blocks of logits [rows, V], in f32.
  void logits(const Batch& batch, const std::function<void(int64_t, int64_t, const float*)>& use);

 private:
  struct Memory;
  Runtime runtime_;
  int64_t most_groups_;
  std::unique_ptr<Memory> memory_;
};

/// Generation with a cache for `sequences` sequences of up to `max_length` tokens each. Appending more is an error that
/// changes nothing. Use it on one thread at a time.
class CachedModel {
 public:
  /// `max_tokens`: the largest number of tokens in one pass.
  CachedModel(const Runtime& runtime, int64_t sequences, int64_t max_length, int64_t max_tokens);
  ~CachedModel();

  /// Bytes that a cache of these sizes allocates. Nothing is allocated.
  static int64_t bytes(const ModelConfig& config, DType dtype, int64_t sequences, int64_t max_length,
                       int64_t max_tokens);
  /// Of what it has allocated, the bytes that its passes have used so far.
  int64_t used_bytes() const;

  /// The number of tokens in a sequence's cache.
  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  int64_t max_length() const;
  /// Appends tokens to one sequence, in as many passes as needed. Returns the logits [V] after the last token. Calls
  /// `passed`, if it is not empty, with the number of tokens of each pass.
  std::vector<float> append(int64_t sequence, std::span<const int32_t> ids,
                            const std::function<void(int64_t)>& passed = {});
  /// Appends one token to each of the given sequences (distinct). Returns the logits [n, V] after them.
  std::vector<float> append_each(std::span<const int32_t> sequences, std::span<const int32_t> ids);
  /// Empties a sequence's cache.
  void reset(int64_t sequence) { lengths_[static_cast<size_t>(sequence)] = 0; }

 private:
  void check_room(int64_t sequence, size_t tokens) const;
  std::vector<float> run(const std::vector<int32_t>& ids, const std::vector<int32_t>& sequence, int64_t wanted_rows);

  struct Memory;
  Runtime runtime_;
  std::vector<int64_t> lengths_;
  std::unique_ptr<Memory> memory_;
};

/// A microbatch for the logits of one document, without padding.
Batch single_document(std::span<const int32_t> tokens);

}  // namespace moe
