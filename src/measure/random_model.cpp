#include "measure/random_model.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "infer/weight_types.h"
#include "measure/machine.h"
#include "measure/model_types.h"
#include "nn/routers/hash_table.h"
#include "ops/transfer.h"

namespace moe {
namespace {

/// Quantised normal numbers of this deviation, the same again and again. Their number is no multiple of a row's, so
/// that rows differ.
void fill_blocks(Device& device, const View& matrix, uint64_t stream, double deviation) {
  constexpr int64_t kPeriod = 257 * 256, kTogether = 64;  // whole blocks of any type
  const int64_t period = std::min(matrix.elements(), kPeriod);
  std::vector<float> values(static_cast<size_t>(period));
  Random(1, stream).normals(0, period, deviation, values.data());
  const auto once = static_cast<size_t>(bytes_of(matrix.dtype, period));
  std::vector<char> bytes(std::min(matrix.bytes(), once * kTogether));
  storage(matrix.dtype).from_floats(values.data(), bytes.data(), period);
  for (size_t at = once; at < bytes.size(); at += once) {
    std::copy_n(bytes.begin(), std::min(once, bytes.size() - at), bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  for (size_t begin = 0; begin < matrix.bytes(); begin += bytes.size()) {
    device.upload(static_cast<char*>(matrix.data) + begin, bytes.data(),
                  std::min(bytes.size(), matrix.bytes() - begin));
  }
}

/// As models from files are stored there.
void rearrange(const Device& device, std::vector<View>& views) {
  for (View& view : views) view = View(view.data, type_on(device, view.dtype, view.shape), view.shape);
}

}  // namespace

RandomModel::RandomModel(const ModelConfig& config, const std::vector<DType>& types, Device& device, Backend& backend)
    : memory_(device) {
  const auto table = parameter_table(config);
  Arena arena = memory_.arena("the weights", static_cast<size_t>(bytes_of_weights(config, types)));
  std::vector<View> views = push_weights(arena, table, types);
  rearrange(device, views);
  for (size_t i = 0; i < views.size(); ++i) {
    const double width = static_cast<double>(views[i].size(views[i].rank() - 1));
    const double deviation = table[i].kind == ParameterKind::embedding ? 1 : 1 / std::sqrt(width);
    if (table[i].is_table()) {
      upload_vector(device, views[i], random_hash_table(config.vocab_size, config.n_routed_experts, 1, table[i].layer));
    } else if (!is_plain(views[i].dtype) || views[i].dtype == DType::f16) {  // f16: of rows that are not whole blocks
      fill_blocks(device, views[i], i, deviation);
    } else if (views[i].rank() == 1) {
      backend.run(Fill{.x = views[i], .value = 1});
    } else {
      fill_randomly(backend, device, views[i], i, deviation);
    }
  }
  model_ = std::make_unique<Model>(config, BalanceConfig{}, bind_weights(config, views));
}

}  // namespace moe
