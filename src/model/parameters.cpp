#include "model/parameters.h"

#include <algorithm>
#include <cmath>

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

/// The matrices of an adapter of the linear map whose weight is `of`.
void visit_adapter(const AdapterShape& shape, const ParameterInfo& of, int64_t layer, Adapter& adapter,
                   const AddParameter& add) {
  adapter.scale = shape.scale;
  adapter.stream = hash_name(fmt::format("dropout {} {}", layer, of.name));
  const int axis = of.shape.rank() - 2;  // of a matrix's rows
  std::vector<ParameterSlice> slices = of.slices;
  if (slices.empty()) slices = {{"", of.shape[axis]}};
  MOE_CHECK(slices.size() <= adapter.slices.size());
  adapter.slices = {};
  for (size_t slice = 0; slice < slices.size(); ++slice) adapter.slices[slice] = slices[slice].rows;

  const int64_t inputs = of.shape[axis + 1], height = static_cast<int64_t>(slices.size()) * shape.rank;
  ParameterInfo a = of;
  a.name += ".lora_a";
  a.shape = axis == 0 ? Shape{height, inputs} : Shape{of.shape[0], height, inputs};
  a.start = InitialValue::uniform;
  a.type = ParameterType::exact;
  a.adapter = AdapterPart::a;
  for (ParameterSlice& slice : a.slices) slice.rows = shape.rank;
  add(std::move(a), adapter.a);
  ParameterInfo b = of;
  b.name += ".lora_b";
  b.shape = axis == 0 ? Shape{of.shape[0], shape.rank} : Shape{of.shape[0], of.shape[1], shape.rank};
  b.start = InitialValue::zero;
  b.type = ParameterType::exact;
  b.adapter = AdapterPart::b;
  add(std::move(b), adapter.b);
}

/// A linear map: its weight, and its adapter if the configuration has one.
void visit_map(const ModelConfig& config, int64_t layer, const ParameterInfo& info, Linear& map,
               const AddParameter& add) {
  add(info, map.weight);
  const AdapterShape adapter = config.adapter(layer, info.role);
  if (adapter.rank > 0) visit_adapter(adapter, info, layer, map.adapter, add);
}

/// The names and places of the two matrices of a FFN.
struct FfnNames {
  const char* name;
  ParameterKind kind;
  ParameterRole first, last;
};

void visit_ffn(const ModelConfig& config, int64_t layer, const FfnNames& names, int64_t width, FfnWeights& weights,
               const AddParameter& add) {
  const int64_t hidden = config.hidden_size;
  visit_map(config, layer,
            {.name = fmt::format("{}.gate_up", names.name),
             .role = names.first,
             .kind = names.kind,
             .shape = {2 * width, hidden},
             .slices = gate_up(width)},
            weights.gate_up, add);
  visit_map(
      config, layer,
      {.name = fmt::format("{}.down", names.name), .role = names.last, .kind = names.kind, .shape = {hidden, width}},
      weights.down, add);
}

void visit_experts(const ModelConfig& config, int64_t layer, MoeWeights& weights, const AddParameter& add) {
  const int64_t experts = config.n_routed_experts, width = config.moe_intermediate_size, hidden = config.hidden_size;
  visit_map(config, layer,
            {.name = "experts.gate_up",
             .role = ParameterRole::experts_gate_up,
             .kind = ParameterKind::routed_experts,
             .shape = {experts, 2 * width, hidden},
             .shard_axis = 0,
             .slices = gate_up(width)},
            weights.gate_up, add);
  visit_map(config, layer,
            {.name = "experts.down",
             .role = ParameterRole::experts_down,
             .kind = ParameterKind::routed_experts,
             .shape = {experts, hidden, width},
             .shard_axis = 0},
            weights.down, add);
}

void visit_layer(const ModelConfig& config, int64_t layer, DecoderWeights& weights, const AddParameter& add) {
  const AttentionConfig attention = config.attention();
  const int64_t hidden = config.hidden_size;
  add(norm("attention.norm", ParameterRole::attention_norm, hidden), weights.attention_norm);
  visit_map(config, layer,
            {.name = "attention.qkv",
             .role = ParameterRole::attention_qkv,
             .kind = ParameterKind::attention,
             .shape = {attention.qkv_width(), hidden},
             .slices = {{"q", attention.q_width()}, {"k", attention.kv_width()}, {"v", attention.kv_width()}}},
            weights.attention.qkv, add);
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
  visit_map(config, layer,
            {.name = "attention.output",
             .role = ParameterRole::attention_output,
             .kind = ParameterKind::attention,
             .shape = {hidden, attention.q_width()}},
            weights.attention.output, add);
  add(norm("ffn.norm", ParameterRole::ffn_norm, hidden), weights.ffn_norm);
  if (!config.is_moe_layer(layer)) {
    visit_ffn(config, layer, {"ffn", ParameterKind::dense_ffn, ParameterRole::ffn_gate_up, ParameterRole::ffn_down},
              config.intermediate_size, weights.ffn, add);
    return;
  }
  visit_router(config.router(), {.hidden = hidden, .vocabulary = config.vocab_size}, weights.moe.router, add);
  visit_experts(config, layer, weights.moe, add);
  if (config.n_shared_experts > 0) {
    visit_ffn(config, layer,
              {"shared", ParameterKind::shared_experts, ParameterRole::shared_gate_up, ParameterRole::shared_down},
              config.shared_width(), weights.moe.shared, add);
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
  visit_map(config, -1, {.name = "head", .role = ParameterRole::head, .kind = ParameterKind::head, .shape = vocabulary},
            weights.head.project, [&](ParameterInfo info, View& view) { visit(-1, std::move(info), view); });
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

Shape Parameter::trained_shape() const {
  return experts.empty() ? shape : shape.with_first(static_cast<int64_t>(experts.size()));
}

std::vector<ExpertRun> Parameter::trained_runs() const {
  if (!experts.empty()) return runs_of(experts);
  return {{.first = 0, .count = shape[0], .at = 0}};
}

std::vector<Parameter> parameter_table(const ModelConfig& config) {
  std::vector<Parameter> table;
  ModelWeights unused;
  visit_parameters(config, unused, [&](int64_t layer, ParameterInfo info, View&) {
    table.push_back({std::move(info), layer});
  });
  return table;
}

void divide_experts(std::vector<Parameter>& table, int64_t member, int64_t ranks) {
  for (Parameter& parameter : table) {
    if (parameter.kind != ParameterKind::routed_experts || ranks == 1) continue;
    MOE_CHECK(parameter.experts.empty() && parameter.shard_axis == 0 && parameter.shape[0] % ranks == 0);
    const int64_t experts = parameter.shape[0] / ranks;
    parameter.shape = parameter.shape.with_first(experts);
    parameter.first_expert = member * experts;
  }
}

bool is_in_stage(const ModelConfig& config, ParameterRole role, int64_t layer, const LayerRange& stage) {
  const int64_t layers = config.num_hidden_layers;
  const bool is_head = config.tie_word_embeddings && role == ParameterRole::embedding;
  return stage.has(Parameter::place_of(role, layer, layers), layers) || (is_head && stage.end == layers);
}

void keep_stage(std::vector<Parameter>& table, const ModelConfig& config, const LayerRange& stage) {
  std::erase_if(
      table, [&](const Parameter& parameter) { return !is_in_stage(config, parameter.role, parameter.layer, stage); });
}

int64_t count_elements(const std::vector<Parameter>& table) {
  int64_t total = 0;
  for (const Parameter& parameter : table) total += parameter.shape.elements();
  return total;
}

std::vector<View> base_views(const std::vector<Parameter>& table, const std::vector<View>& views) {
  std::vector<View> base;
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].adapter == AdapterPart::none) base.push_back(views[i]);
  }
  return base;
}

ModelWeights bind_weights(const ModelConfig& config, const std::vector<View>& views,
                          const std::optional<LayerRange>& stage) {
  ModelWeights weights;
  size_t index = 0;
  visit_parameters(config, weights, [&](int64_t layer, const ParameterInfo& info, View& view) {
    if (stage && !is_in_stage(config, info.role, layer, *stage)) return;
    MOE_CHECK(index < views.size());
    view = views[index++];
  });
  MOE_CHECK(index == views.size());
  if (config.tie_word_embeddings) weights.head.project = {weights.embedding};
  return weights;
}

void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values) {
  if (parameter.start == InitialValue::one || parameter.start == InitialValue::zero) {
    std::fill_n(values, count, parameter.start == InitialValue::one ? 1.0f : 0.0f);
    return;
  }
  const Random random(seed, hash_name(parameter.name));
  if (parameter.start == InitialValue::uniform) {
    const double bound = 1 / std::sqrt(static_cast<double>(parameter.shape[parameter.shape.rank() - 1]));
    for (int64_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(bound * (2 * random.uniform(static_cast<uint64_t>(begin + i)) - 1));
    }
    return;
  }
  random.normals(static_cast<uint64_t>(begin), count, standard_deviation, values);
}

}  // namespace moe
