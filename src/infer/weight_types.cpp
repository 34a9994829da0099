#include "infer/weight_types.h"

#include <algorithm>
#include <array>

#include "base/units.h"

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
  std::vector<DType> result;
  for (size_t i = 0; i < source.table().size(); ++i) {
    const Parameter& parameter = source.table()[i];
    DType& type = result.emplace_back(parameter.storage(types.type));
    if (!types.keep_blocks || parameter.type != ParameterType::weight || !parameter.is_matrix()) continue;
    const std::optional<DType> in_file = stored_type(source, i);
    if (!in_file) {
      type = type_of_mixture(source, i, types.type);
    } else if (!is_plain(*in_file)) {
      type = *in_file;
    }
  }
  return result;
}

std::string weights_text(const std::vector<View>& views) {
  std::array<int64_t, std::size(kStorageTypes)> bytes{};
  for (const View& view : views) bytes[static_cast<size_t>(view.dtype)] += static_cast<int64_t>(view.bytes());
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

}  // namespace moe
