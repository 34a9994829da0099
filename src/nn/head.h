#pragma once
/// Final norm, output projection and loss. Logits are computed for one chunk of rows at a time; the whole [T, V] never
/// exists. T tokens, D hidden size, V vocabulary.

#include "nn/linear.h"

namespace moe {

struct HeadWeights {
  View norm;       ///< [D]
  Linear project;  ///< [V, D]; the embedding if tied
};

struct HeadSaved {
  View normed;   ///< [T, D]
  View inv_rms;  ///< stat [T]
};

/// The rows of a chunk: as many as `logits` (Pass::logits_per_chunk) allows, and at least 64.
int64_t head_chunk_rows(int64_t vocabulary, int64_t logits = Pass::kLogitsPerChunk);

/// What a GPU takes at once. Its products need more rows than fit into a processor's cache. Each chunk reads and writes
/// the whole gradient of the projection, so a large vocabulary gets enough rows to make that a small part of the
/// chunk's work.
constexpr int64_t gpu_logits_per_chunk(int64_t vocabulary) {
  constexpr int64_t kLogits = int64_t{128} << 20, kRows = 4096;
  return vocabulary > kLogits / kRows ? kRows * vocabulary : kLogits;
}

HeadSaved head_norm(Pass& pass, const HeadWeights& weights, float eps, View h);

/// logits [n, V] (stat) of n rows of normed hidden states.
void head_logits(Pass& pass, const HeadWeights& weights, View normed, View logits);

/// row_loss [T] (stat) of the targets, without gradients.
void head_loss(Pass& pass, const HeadWeights& weights, View normed, View targets, View row_loss);

/// row_loss, the gradient of h (into d [T, D], overwritten) and of the weights, for the loss gradient_scale * sum of
/// row_loss. `loss_weights` stat [T] are factors of the rows' losses; absent: 1. The first microbatch of a step
/// overwrites `gradients.project`.
void head_backward(Pass& pass, const HeadWeights& weights, const HeadWeights& gradients, const HeadSaved& saved, View h,
                   View targets, View loss_weights, View gradient_scale, View row_loss, View d);

}  // namespace moe
