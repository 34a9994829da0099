#include "infer/loaded_model.h"

#include <optional>

#include "checkpoint/gguf_weights.h"
#include "checkpoint/open_model.h"
#include "checkpoint/weights.h"
#include "model/pass_memory.h"
#include "ops/transfer.h"

namespace moe {
namespace {

/// Uploads what is added to the scores of all MoE layers to `memory` and gives each layer its own.
void bind_score_changes(const ModelConfig& config, const std::vector<float>& changes, Device& device,
                        DeviceMemory& memory, ModelWeights& weights) {
  const Shape shape{config.moe_layers(), config.n_routed_experts};
  Arena measure("score changes", nullptr, PassSizes{}.saved);
  measure.push("score changes", DType::f32, shape);
  const View all =
      memory.arena("masks and boosts of experts", measure.peak_bytes()).push("score changes", DType::f32, shape);
  upload_vector(device, all, changes);
  int64_t index = -1;
  for (int64_t number = 0; number < config.num_hidden_layers; ++number) {
    if (!config.is_moe_layer(number)) continue;
    ++index;
    DecoderWeights& layer = weights.layers[static_cast<size_t>(number)];
    if (!layer.is_moe()) continue;  // of another rank
    RouterWeights& router = layer.moe.router;
    if (router.bias) {
      std::vector<float> bias(static_cast<size_t>(config.n_routed_experts));
      device.download(bias.data(), router.bias.data, router.bias.bytes());
      const float* const change = changes.data() + index * config.n_routed_experts;
      for (size_t e = 0; e < bias.size(); ++e) bias[e] += change[e];
      device.upload(all.at(index).data, bias.data(), bias.size() * sizeof(float));
    }
    router.bias = all.at(index);
  }
}

/// Fills the views of adapters. `table` has each adapter's A and B behind the parameter that they adapt.
void load_adapters(const AdapterSet& set, const std::vector<Parameter>& table, const std::vector<View>& views,
                   Device& device) {
  std::vector<float> a, b;
  size_t parameter = 0;  // in the model's table
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].adapter == AdapterPart::none) {
      ++parameter;
      continue;
    }
    if (!views[i]) continue;  // of another rank
    if (table[i].adapter == AdapterPart::a) set.fill(parameter - 1, a, b);
    const std::vector<float>& all = table[i].adapter == AdapterPart::a ? a : b;
    const auto own = all.begin() + table[i].elements_before();
    upload_floats(device, views[i], {own, own + table[i].shape.elements()});
  }
}

}  // namespace

LoadedModel::LoadedModel(const fs::path& path, const WeightTypes& weights, Device& device,
                         const RoutingSwitches& switches, const std::vector<ChosenAdapter>& adapters,
                         const HostExperts& host, const ModelPart& part)
    : device_(device), part_(part), memory_(device) {
  MOE_CHECK(!part || host.layers == 0);
  // A source reads any part of a parameter; a folder of which everything is wanted is read tensor by tensor.
  const std::unique_ptr<WeightSource> source = is_gguf(path) || part ? open_weights(path) : nullptr;
  const ModelConfig base = source != nullptr ? source->config() : read_model_config(path);
  switched(base, switches);  // what does not fit is refused before the weights are read
  const AdapterSet set(adapters, base);
  own_ = base;
  own_.adapters = set.shapes();
  auto table = parameter_table(own_), base_table = parameter_table(base);
  if (const ExpertRanks& ranks = part.experts) {
    MOE_CHECK(divides_experts(base, ranks.size()));
    for (auto* const one : {&table, &base_table}) divide_experts(*one, ranks.member(), ranks.size());
  }
  const std::vector<DType> types = types_on_device(path, table, weights);
  dtype_ = activations_of(types, weights);
  std::vector<Parameter> held;
  std::vector<DType> held_types;
  std::vector<size_t> places;  // of what is held, in the table
  for (size_t i = 0; i < table.size(); ++i) {
    if (part.stage && !is_in_stage(base, table[i].role, table[i].layer, part.stage.layers)) continue;
    held.push_back(table[i]);
    held_types.push_back(type_on(device, types[i], table[i].shape));
    places.push_back(i);
  }
  Arena measure("weights", nullptr, PassSizes{}.saved), host_measure("experts", nullptr, PassSizes{}.saved);
  push_weights(measure, held, held_types, host.layers, &host_measure);
  Arena arena = memory_.arena("the weights of " + path.string(), measure.peak_bytes());
  std::optional<Arena> host_arena;
  if (host_measure.peak_bytes() > 0) {
    host_memory_ = std::make_unique<DeviceMemory>(*host.device);
    host_arena = host_memory_->arena("routed experts of " + path.string(), host_measure.peak_bytes());
  }
  const auto held_views = push_weights(arena, held, held_types, host.layers, host_arena ? &*host_arena : nullptr);
  text_ = weights_text(held_views);
  in_blocks_ = any_in_blocks(held_views);
  std::vector<View> views(table.size());  // absent where other ranks have the parameter
  for (size_t i = 0; i < places.size(); ++i) views[places[i]] = held_views[i];
  const std::vector<View> of_model = base_views(table, views);
  if (source != nullptr) {
    source->check_content();
    load_weights(*source, path, base_table, of_model, device);
  } else {
    load_weights(path, base, base_table, of_model, device);
  }
  load_adapters(set, table, views, device);
  weights_ = bind_weights(own_, views);
  set_switches(switches);
}

void LoadedModel::set_switches(const RoutingSwitches& switches) { current_ = with_switches(switches); }

SwitchedModel LoadedModel::with_switches(const RoutingSwitches& switches) const {
  const ModelConfig config = switched(own_, switches);
  ModelWeights weights = weights_;
  if (switches.drop_shared) {
    for (DecoderWeights& layer : weights.layers) layer.moe.shared = {};
  }
  for (const int64_t layer : switches.without_shared) weights.layers[static_cast<size_t>(layer)].moe.shared = {};
  const std::vector<float> changes = score_changes(config, switches);
  auto memory = changes.empty() ? nullptr : std::make_unique<DeviceMemory>(device_);
  if (memory != nullptr) bind_score_changes(config, changes, device_, *memory, weights);
  return {.score_changes = std::move(memory),
          .model = std::make_unique<Model>(config, BalanceConfig{}, std::move(weights), part_.experts, part_.stage)};
}

}  // namespace moe
