#pragma once
/// What a conversion changes in what a model computes: the loss, and the experts that tokens choose. Both models are
/// read layer by layer (infer/streamed_model.h), one after the other.

#include <cstdint>
#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "batch/batch.h"
#include "checkpoint/weight_source.h"
#include "data/documents.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// What one model computes of a batch.
struct CheckedModel {
  double nats = 0;              ///< the sum of the targets' cross-entropies
  std::vector<int32_t> chosen;  ///< [MoE layers, T, S], as Scorer::chosen_ids(); empty for a dense model
};

/// Of one MoE layer: the choices (token times slot) before the conversion, and those of them that the same token makes
/// after it.
struct SameChoices {
  int64_t layer = 0;  ///< of the model, counted from 0
  int64_t same = 0, all = 0;
};

struct CheckLimits {
  int64_t tokens = 4096;
  /// Of the activations of one pass. Tokens for which they need more are left out.
  int64_t bytes = int64_t{1200} << 20;
};

/// The first tokens of the documents, packed as `moe eval loss` packs them: rows of max_position_embeddings, at most
/// those that the limits allow.
Batch check_batch(const Documents& documents, const ModelConfig& config, const CheckLimits& limits = {});

/// `progress` gets the layer that is computed now; may be empty. Throws an Error if a loss is not finite.
CheckedModel run_check(const WeightSource& source, const Batch& batch, Device& device, Backend& backend,
                       ThreadPool& pool, const std::function<void(int64_t layer)>& progress = {});

/// Choices by layer; both runs are of models of this configuration.
std::vector<SameChoices> same_choices(const ModelConfig& config, const CheckedModel& before, const CheckedModel& after);

}  // namespace moe
