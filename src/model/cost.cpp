#include "model/cost.h"

#include <numeric>

namespace moe {
namespace {

// L H h
double heads_width(const ModelConfig& config) {
  return static_cast<double>(config.num_hidden_layers) * static_cast<double>(config.num_attention_heads) *
         static_cast<double>(config.head_dim);
}

}  // namespace

ParameterCounts::ParameterCounts(const ModelConfig& config)
    : head_(config.vocab_size * config.hidden_size),
      experts_(config.n_routed_experts),
      chosen_(config.num_experts_per_tok) {
  for (const Parameter& parameter : parameter_table(config.base())) {
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

double paper_flops(const ModelConfig& config, int64_t sequence_length) {
  const auto s = static_cast<double>(sequence_length);
  return 6 * static_cast<double>(ParameterCounts(config).multiplied()) * s + 12 * s * s * heads_width(config);
}

double exact_flops(const ModelConfig& config, int64_t sequence_length) {
  const auto s = static_cast<double>(sequence_length);
  const ParameterCounts counts(config);
  return 6 * static_cast<double>(counts.multiplied() + counts.stored(ParameterKind::router)) * s +
         6 * s * (s + 1) * heads_width(config);
}

double prompt_flops(const ModelConfig& config, int64_t tokens) {
  const double unread = 2 * static_cast<double>(tokens - 1);  // rows of logits
  return exact_flops(config, tokens) / 3 -
         unread * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
}

double token_bytes(const ModelConfig& config, DType dtype, int64_t positions) {
  const ParameterCounts counts(config);
  const int64_t weights = counts.multiplied() + counts.stored(ParameterKind::router) +
                          counts.stored(ParameterKind::norm) + config.hidden_size;
  return static_cast<double>(weights) * bytes_per_element(dtype) +
         position_bytes(config, storage(dtype).activations) * static_cast<double>(positions);
}

double position_bytes(const ModelConfig& config, DType cache) {
  return 2 * static_cast<double>(config.num_hidden_layers) * static_cast<double>(config.num_key_value_heads) *
         static_cast<double>(config.head_dim) * bytes_per_element(cache);
}

}  // namespace moe
