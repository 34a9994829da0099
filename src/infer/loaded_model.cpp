#include "checkpoint/gguf_weights.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "infer/arenas.h"
#include "infer/forward.h"

namespace moe {
namespace {

/// Uploads the masks of all MoE layers and gives each layer its own. The caller owns the memory.
void* bind_masks(const ModelConfig& config, const std::vector<float>& masks, Device& device, ModelWeights& weights) {
  if (masks.empty()) return nullptr;
  const size_t bytes = masks.size() * sizeof(float);
  void* const memory = device.allocate(bytes, "the masks of experts");
  device.upload(memory, masks.data(), bytes);
  const View all(memory, DType::f32, {config.moe_layers(), config.n_routed_experts});
  int64_t index = 0;
  for (DecoderWeights& layer : weights.layers) {
    if (!layer.is_moe()) continue;
    RouterWeights& router = layer.moe.router;
    if (router.bias) {
      std::vector<float> bias(static_cast<size_t>(config.n_routed_experts));
      device.download(bias.data(), router.bias.data, router.bias.bytes());
      const float* const mask = masks.data() + index * config.n_routed_experts;
      for (size_t e = 0; e < bias.size(); ++e) bias[e] += mask[e];
      device.upload(all.at(index).data, bias.data(), bias.size() * sizeof(float));
    }
    router.bias = all.at(index++);
  }
  return memory;
}

}  // namespace

LoadedModel::LoadedModel(const fs::path& path, DType weights, Device& device, const RoutingSwitches& switches)
    : device_(device), dtype_(storage(weights).activations) {
  const std::unique_ptr<WeightSource> gguf = is_gguf(path) ? open_weights(path) : nullptr;
  own_ = gguf != nullptr ? gguf->config() : read_hf_config(path);
  switched(own_, switches);  // what does not fit is refused before the weights are read
  const auto table = parameter_table(own_);
  Arena measure("weights", nullptr, PassSizes{}.saved);
  push_parameters(measure, table, weights);
  memory_ = device.allocate(measure.peak_bytes(), "the weights of " + path.string());
  Arena arena("weights", memory_, measure.peak_bytes());
  const auto views = push_parameters(arena, table, weights);
  try {
    if (gguf != nullptr) {
      load_weights(*gguf, views, device);
    } else {
      load_weights(path, own_, table, views, device);
    }
    weights_ = bind_weights(own_, views);
    set_switches(switches);
  } catch (...) {
    device.release(memory_);
    throw;
  }
}

void LoadedModel::set_switches(const RoutingSwitches& switches) {
  const ModelConfig config = switched(own_, switches);
  ModelWeights weights = weights_;
  if (switches.drop_shared) {
    for (DecoderWeights& layer : weights.layers) layer.moe.shared = {};
  }
  void* const masks = bind_masks(config, expert_masks(config, switches), device_, weights);
  model_ = std::make_unique<Model>(config, BalanceConfig{}, std::move(weights));
  if (masks_ != nullptr) device_.release(masks_);
  masks_ = masks;
}

LoadedModel::~LoadedModel() {
  if (masks_ != nullptr) device_.release(masks_);
  device_.release(memory_);
}

}  // namespace moe
