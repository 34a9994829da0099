#include "nn/attention.h"

#include <cmath>
#include <vector>

#include "nn/norm.h"
#include "ops/overlap.h"

namespace moe {
namespace {

struct QkvViews {
  View q, k, v, rotated;  // rotated = [q | k] are adjacent in memory, so one rotation serves both
};

/// `rotated` holds q and k where they are apart from v.
QkvViews split(const AttentionConfig& config, const View& qkv, const View& rotated = {}) {
  const int64_t q = config.q_width();
  const int64_t kv = config.kv_width();
  const View& from = rotated ? rotated : qkv;
  return {from.columns(0, q), from.columns(q, kv), qkv.columns(q + kv, kv), from.columns(0, q + kv)};
}

/// One norm of a part of q or k.
struct PartNorm {
  int64_t column, width;
  bool of_q;
};

Shape rotated_shape(const AttentionConfig& config, int64_t count) {
  return {count, config.q_width() + config.kv_width()};
}

std::vector<PartNorm> part_norms(const AttentionConfig& config) {
  if (config.norm == QkNorm::none) return {};
  std::vector<PartNorm> norms;
  const auto add = [&](int64_t begin, int64_t all, bool of_q) {
    const int64_t width = config.norm == QkNorm::each_head ? config.head_dim : all;
    for (int64_t at = 0; at < all; at += width) norms.push_back({begin + at, width, of_q});
  };
  add(0, config.q_width(), true);
  add(config.q_width(), config.kv_width(), false);
  return norms;
}

/// The norms of q and k: from `qkv` into `rotated`.
void normalise(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights, View qkv, View rotated,
               View inv_rms) {
  const std::vector<PartNorm> norms = part_norms(config);
  for (size_t i = 0; i < norms.size(); ++i) {
    const PartNorm& norm = norms[i];
    pass.backend.run(RmsNorm{.x = qkv.columns(norm.column, norm.width),
                             .gain = norm.of_q ? weights.q_norm : weights.k_norm,
                             .eps = config.norm_eps,
                             .y = rotated.columns(norm.column, norm.width),
                             .inv_rms = inv_rms.at(static_cast<int64_t>(i))});
  }
}

/// Adds to the q and k of d_qkv, from the gradient of what the norms gave.
void normalise_backward(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights,
                        const AttentionWeights& gradients, View qkv, View inv_rms, View d_rotated, View d_qkv) {
  const std::vector<PartNorm> norms = part_norms(config);
  for (size_t i = 0; i < norms.size(); ++i) {
    const PartNorm& norm = norms[i];
    norm_backward(pass, norm.of_q ? weights.q_norm : weights.k_norm, norm.of_q ? gradients.q_norm : gradients.k_norm,
                  inv_rms.at(static_cast<int64_t>(i)), d_rotated.columns(norm.column, norm.width),
                  qkv.columns(norm.column, norm.width), d_qkv.columns(norm.column, norm.width));
  }
}

/// q, k and v of the tokens, before q and k are rotated: all in `qkv`, or q and k in `rotated` if they have norms.
QkvViews project(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights, View x, View qkv,
                 View rotated, View inv_rms) {
  linear_forward(pass, weights.qkv, x, qkv);
  normalise(pass, config, weights, qkv, rotated, inv_rms);
  return split(config, qkv, rotated);
}

float score_scale(const AttentionConfig& config) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
}

}  // namespace

AttentionSaved attention_forward(Pass& pass, const AttentionConfig& config, const AttentionWeights& weights,
                                 const TokenViews& tokens, const LayerCache* cache, View x, View y) {
  const Arena::Frame frame(pass.scratch);
  const int64_t count = tokens.count();
  const View qkv = pass.save_or_rebuild(Rebuild::all, "attention.qkv", {count, config.qkv_width()});
  AttentionSaved saved{.qkv = pass.unless_rebuilt(Rebuild::all, qkv),
                       .out = pass.save("attention.out", {count, config.q_width()}),
                       .lse = {}};
  View rotated;
  if (config.norm != QkNorm::none) {
    rotated = pass.save_or_rebuild(Rebuild::all, "attention.rotated", rotated_shape(config, count));
    saved.rotated = pass.unless_rebuilt(Rebuild::all, rotated);
    saved.inv_rms =
        pass.saved.push("attention.norms", pass.stat(), {static_cast<int64_t>(part_norms(config).size()), count});
  }
  const QkvViews parts = project(pass, config, weights, x, qkv, rotated, saved.inv_rms);
  const Rope rope{.x = parts.rotated, .table = tokens.rope};
  if (cache != nullptr) {
    run(pass.backend, RotatedAttention{.rope = rope,
                                       .append = {.k = parts.k,
                                                  .v = parts.v,
                                                  .sequence = tokens.sequence,
                                                  .positions = tokens.positions,
                                                  .pages = tokens.pages,
                                                  .k_cache = cache->k,
                                                  .v_cache = cache->v},
                                       .attention = {.q = parts.q,
                                                     .k_cache = cache->k,
                                                     .v_cache = cache->v,
                                                     .sequence = tokens.sequence,
                                                     .positions = tokens.positions,
                                                     .pages = tokens.pages,
                                                     .heads = config.heads,
                                                     .kv_heads = config.kv_heads,
                                                     .scale = score_scale(config),
                                                     .out = saved.out}});
  } else {
    pass.backend.run(rope);
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
  const bool normed = config.norm != QkNorm::none;
  View d_rotated;
  if (normed) {
    d_rotated = pass.temporary("attention.d_rotated", rotated_shape(config, count));
    pass.backend.run(Fill{.x = d_qkv, .value = 0});
  }
  View qkv = saved.qkv, rotated = saved.rotated;
  if (!qkv) {
    qkv = pass.temporary("attention.qkv", d_qkv.shape);
    if (normed) rotated = pass.temporary("attention.rotated", d_rotated.shape);
    const QkvViews again = project(pass, config, weights, x, qkv, rotated, saved.inv_rms);
    pass.backend.run(Rope{.x = again.rotated, .table = tokens.rope});
  }
  const QkvViews parts = split(config, qkv, rotated);
  const QkvViews d_parts = split(config, d_qkv, d_rotated);
  const View d_output_low = linear_input_gradient(pass, weights.output, dy, d_out);
  linear_weight_gradient(pass, weights.output, gradients.output, dy, saved.out, d_output_low);
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
  normalise_backward(pass, config, weights, gradients, qkv, saved.inv_rms, d_rotated, d_qkv);
  const View d_qkv_low = linear_input_gradient(pass, weights.qkv, d_qkv, dx);
  linear_weight_gradient(pass, weights.qkv, gradients.qkv, d_qkv, x, d_qkv_low);
}

}  // namespace moe
