#include "checkpoint/hf_config.h"
#include "checkpoint/weights.h"
#include "infer/arenas.h"
#include "infer/forward.h"

namespace moe {

LoadedModel::LoadedModel(const fs::path& folder, DType dtype, Device& device) : device_(device), dtype_(dtype) {
  const ModelConfig config = read_hf_config(folder);
  const auto table = parameter_table(config);
  Arena measure("weights", nullptr, PassSizes{}.saved);
  push_parameters(measure, table, dtype);
  memory_ = device.allocate(measure.peak_bytes(), "the weights of " + folder.string());
  Arena arena("weights", memory_, measure.peak_bytes());
  const auto views = push_parameters(arena, table, dtype);
  try {
    load_weights(folder, config, table, views, device);
  } catch (...) {
    device.release(memory_);
    throw;
  }
  model_ = std::make_unique<Model>(config, BalanceConfig{}, bind_weights(config, table, views));
}

LoadedModel::~LoadedModel() { device_.release(memory_); }

}  // namespace moe
