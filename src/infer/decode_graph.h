#pragma once
/// Generation without the host: each step computes one token of every sequence, chooses the next ones on the device and
/// advances the positions. On a device that records, a step is one recording. T sequences, V vocabulary, N steps that
/// the log has room for.

#include <memory>

#include "infer/model_on_device.h"
#include "model/pass_memory.h"

namespace moe {

/// Where a step finds its operands and leaves its results, all on the device.
struct DecodeViews {
  TokenViews tokens;  ///< one token for each sequence; its ids and positions are those of the next step afterwards
  View logits;        ///< stat [T, V]
  View allowed = {};  ///< i32 [V]: 0 for ids that are never chosen; absent: any may be
  View draws = {};    ///< i32 [T, kDrawWords] (NextToken); absent: always the most likely token
  View counts = {};   ///< i32 [S, V] (NextToken); absent: there are no penalties
  View chosen;        ///< i32 [T]: the ids that the last step chose; -1: none
  View experts = {};  ///< i32 [MoE layers, T, S]: the experts of the last step; absent: not told
};

/// Queues one step. The pages of the cache must have room for it.
void decode_step(const Model& model, PassArenas& arenas, Backend& backend, DType dtype, const DecodeViews& views,
                 const KvCache& cache);

/// Use it on one thread at a time. What the constructor gets must outlive it, and other work may use the arenas between
/// steps.
class DecodeGraph {
 public:
  DecodeGraph(const ModelOnDevice& runtime, PassArenas& arenas, const DecodeViews& views, const KvCache& cache)
      : runtime_(runtime), arenas_(arenas), views_(views), cache_(cache) {}

  /// Queues a step and does not wait. The first one also loads what a step needs, and the second one records it.
  void step();
  /// The pieces of work that a recorded step gives the device; 0: not known.
  int64_t kernels() const { return recording_ == nullptr ? 0 : recording_->kernels(); }

 private:
  void queue();

  ModelOnDevice runtime_;
  PassArenas& arenas_;
  DecodeViews views_;
  const KvCache& cache_;
  bool loaded_ = false;
  std::unique_ptr<Recording> recording_;
};

}  // namespace moe
