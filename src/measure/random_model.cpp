#include "measure/random_model.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "measure/machine.h"
#include "nn/routers/hash_table.h"
#include "ops/transfer.h"

namespace moe {
namespace {

/// The same quantised normal numbers again and again: only their number matters to the time.
void fill_blocks(Device& device, const View& matrix) {
  const int64_t period = std::min<int64_t>(matrix.elements(), int64_t{1} << 16);  // whole blocks of any type
  std::vector<float> values(static_cast<size_t>(period));
  const Random random(1, 0);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  std::vector<char> bytes(static_cast<size_t>(bytes_of(matrix.dtype, period)));
  storage(matrix.dtype).from_floats(values.data(), bytes.data(), period);
  for (int64_t begin = 0; begin < matrix.elements(); begin += period) {
    const int64_t count = std::min(period, matrix.elements() - begin);
    device.upload(static_cast<char*>(matrix.data) + bytes_of(matrix.dtype, begin), bytes.data(),
                  static_cast<size_t>(bytes_of(matrix.dtype, count)));
  }
}

}  // namespace

RandomModel::RandomModel(const ModelConfig& config, DType dtype, Device& device, Backend& backend) : memory_(device) {
  const auto table = parameter_table(config);
  Arena measure("weights", nullptr, PassSizes{}.saved);
  push_parameters(measure, table, dtype);
  Arena arena = memory_.arena("the weights", measure.peak_bytes());
  const std::vector<View> views = push_parameters(arena, table, dtype);
  for (size_t i = 0; i < views.size(); ++i) {
    if (table[i].is_table()) {
      upload_vector(device, views[i], random_hash_table(config.vocab_size, config.n_routed_experts, 1, table[i].layer));
    } else if (!is_plain(views[i].dtype)) {
      fill_blocks(device, views[i]);
    } else if (views[i].rank() == 1) {
      backend.run(Fill{.x = views[i], .value = 1});
    } else {
      const bool embedding = table[i].kind == ParameterKind::embedding;
      fill_randomly(backend, device, views[i], i,
                    embedding ? 1 : 1 / std::sqrt(static_cast<double>(views[i].size(views[i].rank() - 1))));
    }
  }
  model_ = std::make_unique<Model>(config, BalanceConfig{}, bind_weights(config, views));
}

}  // namespace moe
