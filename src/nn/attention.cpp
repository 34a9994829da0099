#include "nn/attention.h"

#include <cmath>

namespace moe {
namespace {

struct QkvViews {
  View q, k, v, rotated;  // rotated = [q | k] are adjacent in memory, so one rotation serves both
};

QkvViews split(const AttentionConfig& config, const View& qkv) {
  const int64_t q = config.q_width();
  const int64_t kv = config.kv_width();
  return {qkv.columns(0, q), qkv.columns(q, kv), qkv.columns(q + kv, kv), qkv.columns(0, q + kv)};
}

/// q, k and v of the tokens, q and k rotated.
void project(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights, const TokenViews& tokens,
             View x, View qkv) {
  linear_forward(pass, weights.qkv, x, qkv);
  pass.backend.run(Rope{.x = split(config, qkv).rotated, .table = tokens.rope});
}

float score_scale(const AttentionConfig& config) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
}

}  // namespace

AttentionSaved attention_forward(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights,
                                 const TokenViews& tokens, const LayerCache* cache, View x, View y) {
  const Arena::Frame frame(pass.scratch);
  const int64_t count = tokens.count();
  const View qkv = pass.save_or_rebuild("attention.qkv", {count, config.qkv_width()});
  AttentionSaved saved{
      .qkv = pass.unless_rebuilt(qkv), .out = pass.save("attention.out", {count, config.q_width()}), .lse = {}};
  const QkvViews parts = split(config, qkv);
  project(pass, config, weights, tokens, x, qkv);
  if (cache != nullptr) {
    pass.backend.run(KvAppend{.k = parts.k,
                              .v = parts.v,
                              .sequence = tokens.sequence,
                              .positions = tokens.positions,
                              .k_cache = cache->k,
                              .v_cache = cache->v});
    pass.backend.run(CachedAttention{.q = parts.q,
                                     .k_cache = cache->k,
                                     .v_cache = cache->v,
                                     .sequence = tokens.sequence,
                                     .positions = tokens.positions,
                                     .heads = config.heads,
                                     .kv_heads = config.kv_heads,
                                     .scale = score_scale(config),
                                     .out = saved.out});
  } else {
    saved.lse = pass.saved.push("attention.lse", pass.stat(), {count, config.heads});
    pass.backend.run(Attention{.q = parts.q,
                               .k = parts.k,
                               .v = parts.v,
                               .segment_start = tokens.segment_start,
                               .heads = config.heads,
                               .kv_heads = config.kv_heads,
                               .scale = score_scale(config),
                               .max_segment = tokens.max_segment,
                               .out = saved.out,
                               .lse = saved.lse});
  }
  linear_forward(pass, weights.output, saved.out, y);
  return saved;
}

void attention_backward(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights,
                        const AttentionWeights& gradients, const TokenViews& tokens, const AttentionSaved& saved,
                        View x, View dy, View dx) {
  const Arena::Frame frame(pass.scratch);
  const int64_t count = tokens.count();
  const View d_out = pass.temporary("attention.d_out", {count, config.q_width()});
  const View d_qkv = pass.temporary("attention.d_qkv", {count, config.qkv_width()});
  View qkv = saved.qkv;
  if (!qkv) {
    qkv = pass.temporary("attention.qkv", d_qkv.shape);
    project(pass, config, weights, tokens, x, qkv);
  }
  const QkvViews parts = split(config, qkv);
  const QkvViews d_parts = split(config, d_qkv);
  linear_weight_gradient(pass, gradients.output, dy, saved.out);
  linear_input_gradient(pass, weights.output, dy, d_out);
  pass.backend.run(AttentionBackward{.q = parts.q,
                                     .k = parts.k,
                                     .v = parts.v,
                                     .segment_start = tokens.segment_start,
                                     .out = saved.out,
                                     .lse = saved.lse,
                                     .d_out = d_out,
                                     .heads = config.heads,
                                     .kv_heads = config.kv_heads,
                                     .scale = score_scale(config),
                                     .max_segment = tokens.max_segment,
                                     .dq = d_parts.q,
                                     .dk = d_parts.k,
                                     .dv = d_parts.v});
  pass.backend.run(Rope{.x = d_parts.rotated, .table = tokens.rope, .inverse = true});
  linear_weight_gradient(pass, gradients.qkv, d_qkv, x);
  linear_input_gradient(pass, weights.qkv, d_qkv, dx);
}

}  // namespace moe
