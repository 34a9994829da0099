#include "infer/weight_types.h"

#include <algorithm>
#include <array>

#include "base/units.h"
#include "checkpoint/open_model.h"
#include "formats/gguf.h"
#include "model/pass_memory.h"

namespace moe {
namespace {

/// Of a parameter whose slices are stored in different types.
DType type_of_mixture(const WeightSource& source, size_t index, DType others) {
  const Parameter& parameter = source.table()[index];
  const int64_t width = parameter.shape[parameter.shape.rank() - 1];
  int64_t row = 0;
  for (const ParameterSlice& slice : parameter.slices) {
    if (is_plain(source.stored(index, row * width))) return parameter.storage(others);
    row += slice.rows;
  }
  return parameter.storage(DType::q8_0);
}

}  // namespace

std::vector<DType> stored_types(const WeightSource& source, const WeightTypes& types) {
  const std::vector<Parameter>& table = source.table();
  std::vector<DType> result;
  const auto may_be_blocks = [](const Parameter& parameter) {
    return parameter.type == ParameterType::weight && parameter.is_matrix();
  };
  for (size_t i = 0; i < table.size(); ++i) {
    DType& type = result.emplace_back(table[i].storage(types.type));
    if (!types.keep_blocks || !may_be_blocks(table[i])) continue;
    const std::optional<DType> in_file = stored_type(source, i);
    if (!in_file) {
      type = type_of_mixture(source, i, types.type);
    } else if (!is_plain(*in_file)) {
      type = *in_file;
    }
  }
  if (!types.keep_blocks || std::all_of(result.begin(), result.end(), is_plain)) return result;
  for (size_t i = 0; i < table.size(); ++i) {
    if (may_be_blocks(table[i]) && is_plain(result[i])) result[i] = table[i].storage(types.beside_blocks);
  }
  return result;
}

DType activations_of(const std::vector<DType>& stored, const WeightTypes& types) {
  const bool blocks = !std::all_of(stored.begin(), stored.end(), is_plain);
  return blocks ? types.beside_blocks : storage(types.type).activations;
}

std::string weights_text(const std::vector<View>& views) {
  std::array<int64_t, std::size(kStorageTypes)> bytes{};
  for (const View& view : views) {
    bytes[static_cast<size_t>(storage(view.dtype).rearranges)] += static_cast<int64_t>(view.bytes());
  }
  std::vector<StorageType> used;
  for (const StorageType& type : kStorageTypes) {
    if (bytes[static_cast<size_t>(type.dtype)] > 0) used.push_back(type);
  }
  const auto bytes_in = [&](const StorageType& type) { return bytes[static_cast<size_t>(type.dtype)]; };
  std::sort(used.begin(), used.end(), [&](const auto& a, const auto& b) { return bytes_in(a) > bytes_in(b); });
  std::string text;
  for (const StorageType& type : used) {
    const double size = gib(bytes_in(type));
    const bool small = size < 0.1;
    text += fmt::format("{}{:.2f} {} of {}", text.empty() ? "" : ", ", small ? 1024 * size : size,
                        small ? "MiB" : "GiB", type.name);
  }
  return text;
}

std::vector<DType> types_on_device(const fs::path& path, const std::vector<Parameter>& table,
                                   const WeightTypes& types) {
  std::vector<DType> in_file, result;  // of the model without adapters, which come from other files
  if (types.keep_blocks && is_gguf(path)) in_file = stored_types(*open_weights(path), types);
  // Adapters were trained beside an embedding and a head that are not in blocks (train/step.h, StepConfig::storage).
  const bool adapted = std::any_of(table.begin(), table.end(),
                                   [](const Parameter& parameter) { return parameter.adapter != AdapterPart::none; });
  const bool as_trained = !is_plain(types.type) && (adapted || types.type == DType::nf4);
  size_t next = 0;
  for (const Parameter& parameter : table) {
    const bool of_file = !in_file.empty() && parameter.adapter == AdapterPart::none;
    const DType chosen = as_trained && parameter.is_by_token() ? types.beside_blocks : types.type;
    result.push_back(of_file ? in_file[next++] : parameter.storage(chosen));
  }
  return result;
}

bool is_routed_expert_below(const Parameter& parameter, int64_t layers) {
  return parameter.kind == ParameterKind::routed_experts && parameter.layer < layers;
}

std::vector<View> push_weights(Arena& arena, const std::vector<Parameter>& table, const std::vector<DType>& types,
                               int64_t host_layers, Arena* host) {
  std::vector<View> views;
  for (size_t i = 0; i < table.size(); ++i) {
    const bool on_host = is_routed_expert_below(table[i], host_layers);
    const DType type = on_host ? storage(types[i]).rearranges : types[i];
    views.push_back((on_host ? *host : arena).push(table[i].name, type, table[i].shape));
  }
  return views;
}

bool any_in_blocks(const std::vector<View>& views) {
  return std::any_of(views.begin(), views.end(), [](const View& view) { return !is_plain(view.dtype); });
}

bool divides_experts(const ModelConfig& config, int64_t ranks) {
  return config.moe_layers() > 0 && config.n_routed_experts % ranks == 0;
}

WeightSizes::WeightSizes(const fs::path& path, const WeightTypes& types, const std::vector<ChosenAdapter>& adapters)
    : types_(types),
      held_(read_adapted_config(path, adapters)),
      table_(parameter_table(held_.config)),
      stored_(types_on_device(path, table_, types)) {}

WeightSizes WeightSizes::of_rank(const Layout& layout, int64_t rank) const {
  MOE_CHECK(held_.layout.ranks() == 1);
  WeightSizes one = *this;
  one.held_ = {config(), layout, rank};
  one.held_.keep(one.table_);
  one.stored_.clear();
  const LayerRange layers = one.held_.layers();
  for (size_t i = 0; i < table_.size(); ++i) {
    if (is_in_stage(config(), table_[i].role, table_[i].layer, layers)) one.stored_.push_back(stored_[i]);
  }
  return one;
}

WeightsSize WeightSizes::of(int64_t host_layers) const {
  Arena measure("weights", nullptr, PassSizes{}.saved), host("experts", nullptr, PassSizes{}.saved);
  const std::vector<View> views = push_weights(measure, table_, stored_, host_layers, &host);
  std::vector<View> here, there;
  for (size_t i = 0; i < views.size(); ++i) {
    (is_routed_expert_below(table_[i], host_layers) ? there : here).push_back(views[i]);
  }
  return {.bytes = static_cast<int64_t>(measure.peak_bytes()),
          .host_bytes = static_cast<int64_t>(host.peak_bytes()),
          .host_layers = host_layers,
          .activations = activations_of(stored_, types_),
          .in_blocks = any_in_blocks(views),
          .text = weights_text(here),
          .host_text = weights_text(there)};
}

WeightsSize WeightSizes::fitting(int64_t bytes, int64_t least) const {
  for (int64_t layers = least;; ++layers) {
    WeightsSize size = of(layers);
    if (size.bytes <= bytes || layers >= config().num_hidden_layers) return size;
  }
}

}  // namespace moe
