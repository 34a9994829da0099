#include "train/initialize.h"

#include <algorithm>

#include "nn/routers/hash_table.h"
#include "ops/transfer.h"

namespace moe {
void initialize_parameters(const ModelConfig& config, const std::vector<Parameter>& table,
                           const std::vector<View>& views, uint64_t seed, double standard_deviation,
                           std::span<const int64_t> token_counts, ThreadPool* pool, Device& device) {
  constexpr int64_t kBlock = int64_t{1} << 22, kPiece = int64_t{1} << 14;
  ThreadPool alone(1);
  ThreadPool& workers = pool != nullptr ? *pool : alone;  // billions of numbers; each depends only on its place
  std::vector<float> values;
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].is_table()) {
      upload_vector(device, views[i],
                    token_counts.empty()
                        ? random_hash_table(config.vocab_size, config.n_routed_experts, seed, table[i].layer)
                        : balanced_hash_table(token_counts, config.n_routed_experts));
      continue;
    }
    const int64_t elements = table[i].shape.elements();
    for (int64_t begin = 0; begin < elements; begin += kBlock) {
      const int64_t count = std::min(kBlock, elements - begin);
      values.resize(static_cast<size_t>(count));
      workers.parallel_for((count + kPiece - 1) / kPiece, [&](int64_t piece, int) {
        const int64_t first = piece * kPiece;
        initial_values(table[i], seed, standard_deviation, begin + first, std::min(kPiece, count - first),
                       values.data() + first);
      });
      upload_floats(device, views[i].reshaped({elements}).rows(begin, count), values);
    }
  }
}

}  // namespace moe
