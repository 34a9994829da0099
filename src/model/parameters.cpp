#include "model/parameters.h"

#include <algorithm>

#include "base/random.h"
#include "nn/routers/router.h"

namespace moe {
namespace {

ParameterInfo norm(const char* name, ParameterRole role, int64_t width) {
  return {.name = name,
          .role = role,
          .kind = ParameterKind::norm,
          .shape = {width},
          .start = InitialValue::one,
          .type = ParameterType::exact,
          .decays = false,
          .gradient_is_added = true};
}

std::vector<ParameterSlice> gate_up(int64_t width) { return {{"gate", width}, {"up", width}}; }

void visit_ffn(const std::string& name, ParameterKind kind, ParameterRole first, ParameterRole last, int64_t width,
               int64_t hidden, FfnWeights& weights, const AddParameter& add) {
  add({.name = name + ".gate_up", .role = first, .kind = kind, .shape = {2 * width, hidden}, .slices = gate_up(width)},
      weights.gate_up.weight);
  add({.name = name + ".down", .role = last, .kind = kind, .shape = {hidden, width}}, weights.down.weight);
}

void visit_experts(const ModelConfig& config, MoeWeights& weights, const AddParameter& add) {
  const int64_t experts = config.n_routed_experts, width = config.moe_intermediate_size, hidden = config.hidden_size;
  add({.name = "experts.gate_up",
       .role = ParameterRole::experts_gate_up,
       .kind = ParameterKind::routed_experts,
       .shape = {experts, 2 * width, hidden},
       .shard_axis = 0,
       .slices = gate_up(width)},
      weights.gate_up.weight);
  add({.name = "experts.down",
       .role = ParameterRole::experts_down,
       .kind = ParameterKind::routed_experts,
       .shape = {experts, hidden, width},
       .shard_axis = 0},
      weights.down.weight);
}

void visit_layer(const ModelConfig& config, int64_t layer, DecoderWeights& weights, const AddParameter& add) {
  const AttentionConfig attention = config.attention();
  const int64_t hidden = config.hidden_size;
  add(norm("attention.norm", ParameterRole::attention_norm, hidden), weights.attention_norm);
  add({.name = "attention.qkv",
       .role = ParameterRole::attention_qkv,
       .kind = ParameterKind::attention,
       .shape = {attention.qkv_width(), hidden},
       .slices = {{"q", attention.q_width()}, {"k", attention.kv_width()}, {"v", attention.kv_width()}}},
      weights.attention.qkv.weight);
  if (config.qkv_bias) {
    add({.name = "attention.qkv_bias",
         .role = ParameterRole::attention_qkv_bias,
         .kind = ParameterKind::attention,
         .shape = {attention.qkv_width()},
         .start = InitialValue::zero,
         .type = ParameterType::exact,
         .decays = false,
         .slices = {{"q", attention.q_width()}, {"k", attention.kv_width()}, {"v", attention.kv_width()}}},
        weights.attention.qkv.bias);
  }
  if (config.qk_norm != QkNorm::none) {
    const bool each = config.qk_norm == QkNorm::each_head;
    add(norm("attention.q_norm", ParameterRole::attention_q_norm, each ? config.head_dim : attention.q_width()),
        weights.attention.q_norm);
    add(norm("attention.k_norm", ParameterRole::attention_k_norm, each ? config.head_dim : attention.kv_width()),
        weights.attention.k_norm);
  }
  add({.name = "attention.output",
       .role = ParameterRole::attention_output,
       .kind = ParameterKind::attention,
       .shape = {hidden, attention.q_width()}},
      weights.attention.output.weight);
  add(norm("ffn.norm", ParameterRole::ffn_norm, hidden), weights.ffn_norm);
  if (!config.is_moe_layer(layer)) {
    visit_ffn("ffn", ParameterKind::dense_ffn, ParameterRole::ffn_gate_up, ParameterRole::ffn_down,
              config.intermediate_size, hidden, weights.ffn, add);
    return;
  }
  visit_router(config.router(), {.hidden = hidden, .vocabulary = config.vocab_size}, weights.moe.router, add);
  visit_experts(config, weights.moe, add);
  if (config.n_shared_experts > 0) {
    visit_ffn("shared", ParameterKind::shared_experts, ParameterRole::shared_gate_up, ParameterRole::shared_down,
              config.shared_width(), hidden, weights.moe.shared, add);
    if (!config.gated_shared_expert) return;
    add({.name = "shared.gate",
         .role = ParameterRole::shared_gate,
         .kind = ParameterKind::shared_experts,
         .shape = {1, hidden},
         .type = ParameterType::exact},
        weights.moe.shared_gate.weight);
  }
}

}  // namespace

void visit_parameters(const ModelConfig& config, ModelWeights& weights,
                      const std::function<void(int64_t layer, ParameterInfo info, View& view)>& visit) {
  const Shape vocabulary{config.vocab_size, config.hidden_size};
  // The gradient of a tied embedding is first overwritten by the head's.
  visit(-1,
        {.name = "embedding",
         .role = ParameterRole::embedding,
         .kind = ParameterKind::embedding,
         .shape = vocabulary,
         .gradient_is_added = !config.tie_word_embeddings},
        weights.embedding);
  weights.layers.resize(static_cast<size_t>(config.num_hidden_layers));
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    visit_layer(config, layer, weights.layers[static_cast<size_t>(layer)], [&](ParameterInfo info, View& view) {
      info.name = fmt::format("layers.{}.{}", layer, info.name);
      visit(layer, std::move(info), view);
    });
  }
  visit(-1, norm("norm", ParameterRole::final_norm, config.hidden_size), weights.head.norm);
  if (config.tie_word_embeddings) return;
  visit(-1, {.name = "head", .role = ParameterRole::head, .kind = ParameterKind::head, .shape = vocabulary},
        weights.head.project.weight);
}

DType Parameter::storage(DType weights) const {
  switch (type) {
    case ParameterType::index:
      return DType::i32;
    case ParameterType::stat:
      return stat_dtype(weights);
    case ParameterType::exact:
      return is_plain(weights) ? weights : DType::f32;
    case ParameterType::weight:
      break;
  }
  return is_plain(weights) ? weights : type_for_rows(weights, shape[shape.rank() - 1]);
}

std::vector<Parameter> parameter_table(const ModelConfig& config) {
  std::vector<Parameter> table;
  ModelWeights unused;
  visit_parameters(config, unused, [&](int64_t layer, ParameterInfo info, View&) {
    table.push_back({std::move(info), layer, false});
  });
  return table;
}

int64_t count_elements(const std::vector<Parameter>& table) {
  int64_t total = 0;
  for (const Parameter& parameter : table) total += parameter.shape.elements();
  return total;
}

ModelWeights bind_weights(const ModelConfig& config, const std::vector<View>& views) {
  ModelWeights weights;
  size_t index = 0;
  visit_parameters(config, weights, [&](int64_t, const ParameterInfo&, View& view) {
    MOE_CHECK(index < views.size());
    view = views[index++];
  });
  MOE_CHECK(index == views.size());
  if (config.tie_word_embeddings) weights.head.project = {weights.embedding};
  return weights;
}

void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values) {
  if (parameter.start != InitialValue::normal) {
    std::fill_n(values, count, parameter.start == InitialValue::one ? 1.0f : 0.0f);
    return;
  }
  const Random random(seed, hash_name(parameter.name));
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(standard_deviation * random.normal(static_cast<uint64_t>(begin + i)));
  }
}

}  // namespace moe
