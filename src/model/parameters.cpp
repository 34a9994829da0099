#include "model/parameters.h"

#include "base/random.h"

namespace moe {
namespace {

void add_layer(const ModelConfig& config, int64_t layer, std::vector<Parameter>& table) {
  const auto add = [&](const char* suffix, Shape shape, ParameterKind kind, bool starts_at_zero = false) {
    table.push_back({fmt::format("layers.{}.{}", layer, suffix), shape, kind, layer, starts_at_zero});
  };
  const AttentionConfig attention = config.decoder().attention;
  const int64_t hidden = config.hidden_size;
  add("attention.norm", {hidden}, ParameterKind::norm);
  add("attention.qkv", {attention.qkv_width(), hidden}, ParameterKind::attention);
  add("attention.output", {hidden, attention.q_width()}, ParameterKind::attention);
  add("ffn.norm", {hidden}, ParameterKind::norm);
  if (!config.is_moe_layer(layer)) {
    add("ffn.gate_up", {2 * config.intermediate_size, hidden}, ParameterKind::dense_ffn);
    add("ffn.down", {hidden, config.intermediate_size}, ParameterKind::dense_ffn);
    return;
  }
  const int64_t experts = config.n_routed_experts;
  const int64_t width = config.moe_intermediate_size;
  const bool noisy = config.routing == RoutingMethod::noisy_topk;
  if (config.routing != RoutingMethod::hash) add("router", {experts, hidden}, ParameterKind::router, noisy);
  if (config.has_router_bias()) add("router.bias", {experts}, ParameterKind::router_state, true);
  if (noisy) add("router.noise", {experts, hidden}, ParameterKind::router, true);
  if (config.routing == RoutingMethod::hash)
    add("router.table", {config.vocab_size}, ParameterKind::router_state, true);
  if (config.routing == RoutingMethod::stable) {
    add("router.light_embedding", {config.vocab_size, kLightWidth}, ParameterKind::light_router);
    add("router.light_centroids", {experts, kLightWidth}, ParameterKind::light_router);
  }
  add("experts.gate_up", {experts, 2 * width, hidden}, ParameterKind::routed_experts);
  add("experts.down", {experts, hidden, width}, ParameterKind::routed_experts);
  if (config.n_shared_experts > 0) {
    add("shared.gate_up", {2 * config.shared_width(), hidden}, ParameterKind::shared_experts);
    add("shared.down", {hidden, config.shared_width()}, ParameterKind::shared_experts);
  }
}

}  // namespace

const char* name(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::embedding:
      return "embedding";
    case ParameterKind::head:
      return "head";
    case ParameterKind::norm:
      return "norms";
    case ParameterKind::attention:
      return "attention";
    case ParameterKind::dense_ffn:
      return "dense FFN";
    case ParameterKind::router:
      return "routers";
    case ParameterKind::light_router:
      return "light routers";
    case ParameterKind::router_state:
      return "router state";
    case ParameterKind::routed_experts:
      return "routed experts";
    case ParameterKind::shared_experts:
      return "shared experts";
  }
  return "?";
}

DType Parameter::storage(DType weights) const {
  if (!trained()) return is_table() ? DType::i32 : stat_dtype(weights);
  if (is_plain(weights)) return weights;
  const bool exact = !is_matrix() || kind == ParameterKind::router || kind == ParameterKind::light_router;
  return exact ? DType::f32 : type_for_rows(weights, shape[shape.rank() - 1]);
}

bool Parameter::gradient_is_added(bool tied_embedding) const {
  return !is_matrix() || kind == ParameterKind::light_router || (kind == ParameterKind::embedding && !tied_embedding);
}

std::vector<Parameter> parameter_table(const ModelConfig& config) {
  std::vector<Parameter> table;
  table.push_back(
      {.name = "embedding", .shape = {config.vocab_size, config.hidden_size}, .kind = ParameterKind::embedding});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) add_layer(config, layer, table);
  table.push_back({.name = "norm", .shape = {config.hidden_size}, .kind = ParameterKind::norm});
  if (!config.tie_word_embeddings) {
    table.push_back({.name = "head", .shape = {config.vocab_size, config.hidden_size}, .kind = ParameterKind::head});
  }
  return table;
}

int64_t count_elements(const std::vector<Parameter>& table) {
  int64_t total = 0;
  for (const Parameter& parameter : table) total += parameter.shape.elements();
  return total;
}

ModelWeights bind_weights(const ModelConfig& config, const std::vector<Parameter>& table,
                          const std::vector<View>& views) {
  MOE_CHECK(table.size() == views.size());
  size_t index = 0;
  const auto next = [&](std::string_view suffix) {
    MOE_CHECK(index < table.size() && std::string_view(table[index].name).ends_with(suffix));
    return views[index++];
  };
  ModelWeights weights;
  weights.embedding = next("embedding");
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    DecoderWeights decoder;
    decoder.attention_norm = next("attention.norm");
    decoder.attention.qkv = {next("attention.qkv")};
    decoder.attention.output = {next("attention.output")};
    decoder.ffn_norm = next("ffn.norm");
    if (config.is_moe_layer(layer)) {
      RouterWeights& router = decoder.moe.router;
      if (config.routing != RoutingMethod::hash) router.project = {next("router")};
      if (config.has_router_bias()) router.bias = next("router.bias");
      if (config.routing == RoutingMethod::noisy_topk) router.noise = {next("router.noise")};
      if (config.routing == RoutingMethod::hash) router.table = next("router.table");
      if (config.routing == RoutingMethod::stable) {
        router.light_embedding = next("router.light_embedding");
        router.light_centroids = {next("router.light_centroids")};
      }
      decoder.moe.gate_up = {next("experts.gate_up")};
      decoder.moe.down = {next("experts.down")};
      if (config.n_shared_experts > 0) {
        decoder.moe.shared.gate_up = {next("shared.gate_up")};
        decoder.moe.shared.down = {next("shared.down")};
      }
    } else {
      decoder.ffn.gate_up = {next("ffn.gate_up")};
      decoder.ffn.down = {next("ffn.down")};
    }
    weights.layers.push_back(decoder);
  }
  weights.head.norm = next("norm");
  weights.head.project = {config.tie_word_embeddings ? weights.embedding : next("head")};
  MOE_CHECK(index == table.size());
  return weights;
}

void initial_values(const Parameter& parameter, uint64_t seed, double standard_deviation, int64_t begin, int64_t count,
                    float* values) {
  const Random random(seed, hash_name(parameter.name));
  for (int64_t i = 0; i < count; ++i) {
    const auto draw = [&] {
      return static_cast<float>(standard_deviation * random.normal(static_cast<uint64_t>(begin + i)));
    };
    values[i] = parameter.starts_at_zero ? 0.0f : (parameter.is_matrix() ? draw() : 1.0f);
  }
}

}  // namespace moe
