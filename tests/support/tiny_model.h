#pragma once
/// Tiny models and packed batches for tests of the model and the training step.

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "batch/batch.h"
#include "train/step.h"

namespace moe {

/// d 12, 3 layers (the first dense), 3 query heads on 1, 2 shared and 6 routed experts of width 5, K 2.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.vocab_size = 23;
  config.hidden_size = 12;
  config.intermediate_size = 10;
  config.moe_intermediate_size = 5;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 1;
  config.head_dim = 4;
  config.n_shared_experts = 2;
  config.n_routed_experts = 6;
  config.num_experts_per_tok = 2;
  config.first_k_dense_replace = 1;
  config.max_position_embeddings = 64;
  return config;
}

/// One row per list of document lengths, each `length` tokens long, padded; ids from (seed, position).
inline Batch packed_batch(const std::vector<std::vector<int>>& rows, int length, int64_t vocabulary, uint64_t seed) {
  Batch batch;
  const Random random(seed, 0);
  uint64_t draw = 0;
  const auto id = [&] { return static_cast<int32_t>(random.below(draw++, static_cast<uint64_t>(vocabulary))); };
  batch.rows = static_cast<int64_t>(rows.size());
  batch.sequence_length = length;
  for (const auto& documents : rows) {
    const auto row_end = batch.tokens.size() + static_cast<size_t>(length);
    for (const int tokens : documents) {
      const auto start = static_cast<int32_t>(batch.tokens.size());
      for (int i = 0; i < tokens; ++i) {
        batch.tokens.push_back(id());
        batch.positions.push_back(i);
        batch.segment_start.push_back(start);
        batch.segment_id.push_back(static_cast<int32_t>(batch.segment_tokens.size()));
        batch.domain.push_back(0);
      }
      for (int i = 0; i < tokens; ++i) {
        const bool last = i + 1 == tokens;
        batch.targets.push_back(last ? -1 : batch.tokens[static_cast<size_t>(start + i + 1)]);
        batch.num_targets += last ? 0 : 1;
      }
      batch.segment_tokens.push_back(tokens);
      batch.num_tokens += tokens;
    }
    MOE_CHECK(batch.tokens.size() <= row_end);
    batch.tokens.resize(row_end, 0);
    batch.positions.resize(row_end, 0);
    for (auto* list : {&batch.targets, &batch.segment_start, &batch.segment_id, &batch.domain})
      list->resize(row_end, -1);
  }
  return batch;
}

/// Rows [first, first + count) of a batch as a batch of its own.
inline Batch batch_rows(const Batch& whole, int64_t first, int64_t count) {
  const int64_t length = static_cast<int64_t>(whole.tokens.size()) / whole.rows;
  const auto begin = first * length;
  const auto end = (first + count) * length;
  const auto cut = [&](const auto& list) {
    return std::decay_t<decltype(list)>(list.begin() + begin, list.begin() + end);
  };
  Batch part{.rows = count,
             .sequence_length = length,
             .tokens = cut(whole.tokens),
             .targets = cut(whole.targets),
             .positions = cut(whole.positions),
             .segment_start = cut(whole.segment_start),
             .segment_id = cut(whole.segment_id),
             .domain = cut(whole.domain)};
  if (!whole.weights.empty()) part.weights = cut(whole.weights);
  int32_t first_segment = -1;
  for (size_t i = 0; i < part.tokens.size(); ++i) {
    if (part.targets[i] >= 0) ++part.num_targets;
    if (part.segment_id[i] < 0) continue;
    if (first_segment < 0) first_segment = part.segment_id[i];
    part.segment_id[i] -= first_segment;
    part.segment_start[i] -= static_cast<int32_t>(begin);
    part.segment_tokens.resize(static_cast<size_t>(part.segment_id[i]) + 1, 0);
    ++part.segment_tokens.back();
    ++part.num_tokens;
  }
  return part;
}

inline StepConfig step_config_for(const Batch& batch, int64_t microbatches, DType dtype = DType::f32) {
  StepConfig step;
  step.dtype = dtype;
  step.microbatches = microbatches;
  step.sequence_length = static_cast<int64_t>(batch.tokens.size()) / batch.rows;
  step.microbatch_tokens = static_cast<int64_t>(batch.tokens.size()) / microbatches;
  return step;
}

/// The elements of a contiguous f32 view.
inline std::vector<float> download_floats(Device& device, const View& view) {
  std::vector<float> values(static_cast<size_t>(view.elements()));
  device.download(values.data(), view.as<const float>(), view.bytes());
  return values;
}

/// A training step with its memory, initialised with a large standard deviation so that routing and attention vary.
struct StepUnderTest {
  StepUnderTest(const ModelConfig& config, const StepConfig& step, Device& device, Backend& backend, uint64_t seed = 1)
      : run(config, step, plan_training(config, step), device, backend) {
    run.initialize(seed, 0.3);
  }
  /// Runs the microbatches of a step, cut from `batch` by rows.
  void accumulate(const Batch& batch, int64_t microbatches) {
    const int64_t rows = batch.rows / microbatches;
    run.accumulate([&](int64_t index) { return batch_rows(batch, index * rows, rows); });
  }
  TrainingStep run;
};

}  // namespace moe
