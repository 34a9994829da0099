#include "model/cost.h"

#include <numeric>

namespace moe {

ParameterCounts::ParameterCounts(const ModelConfig& config)
    : head_(config.vocab_size * config.hidden_size),
      experts_(config.n_routed_experts),
      chosen_(config.num_experts_per_tok) {
  for (const Parameter& parameter : parameter_table(config)) {
    stored_[index(parameter.kind)] += parameter.shape.elements();
  }
}

int64_t ParameterCounts::activated(ParameterKind kind) const {
  const int64_t all = stored(kind);
  return kind == ParameterKind::routed_experts && experts_ > 0 ? all / experts_ * chosen_ : all;
}

int64_t ParameterCounts::stored() const { return std::accumulate(stored_.begin(), stored_.end(), int64_t{0}); }

int64_t ParameterCounts::activated() const {
  return stored() - stored(ParameterKind::routed_experts) + activated(ParameterKind::routed_experts);
}

int64_t ParameterCounts::multiplied() const {
  int64_t sum = head_;
  for (const auto kind : {ParameterKind::attention, ParameterKind::dense_ffn, ParameterKind::routed_experts,
                          ParameterKind::shared_experts}) {
    sum += activated(kind);
  }
  return sum;
}

int64_t paper_flops(const ModelConfig& config, int64_t sequence_length) {
  const int64_t s = sequence_length;
  const int64_t heads_width = config.num_attention_heads * config.head_dim;
  return 6 * ParameterCounts(config).multiplied() * s + 12 * config.num_hidden_layers * s * s * heads_width;
}

int64_t exact_flops(const ModelConfig& config, int64_t sequence_length) {
  const int64_t s = sequence_length;
  const int64_t heads_width = config.num_attention_heads * config.head_dim;
  const ParameterCounts counts(config);
  return 6 * (counts.multiplied() + counts.stored(ParameterKind::router)) * s +
         6 * config.num_hidden_layers * s * (s + 1) * heads_width;
}

int64_t prompt_flops(const ModelConfig& config, int64_t tokens) {
  return exact_flops(config, tokens) / 3 - 2 * (tokens - 1) * config.vocab_size * config.hidden_size;
}

int64_t token_bytes(const ModelConfig& config, DType dtype, int64_t positions) {
  const ParameterCounts counts(config);
  const int64_t weights = counts.multiplied() + counts.stored(ParameterKind::router) +
                          counts.stored(ParameterKind::norm) + config.hidden_size;
  const int64_t cache = 2 * config.num_hidden_layers * positions * config.num_key_value_heads * config.head_dim;
  return (weights + cache) * static_cast<int64_t>(size_of(dtype));
}

}  // namespace moe
