#include "train/initialize.h"

#include <algorithm>
#include <array>
#include <vector>

#include "nn/routers/hash_table.h"
#include "ops/transfer.h"

namespace moe {
void initialize_parameters(const ModelConfig& config, const std::vector<Parameter>& table,
                           const std::vector<View>& parameters, const std::vector<View>& masters, uint64_t seed,
                           double standard_deviation, std::span<const int64_t> token_counts, ThreadPool* pool,
                           Device& device) {
  constexpr int64_t kBlock = int64_t{1} << 22, kPiece = int64_t{1} << 12;
  ThreadPool alone(1);
  ThreadPool& workers = pool != nullptr ? *pool : alone;  // billions of numbers; each depends only on its place
  std::vector<char> stored;                               // a block, as it is stored
  // Elements [begin, begin + elements) of a parameter, to the elements of `to` from `at` on.
  const auto draw = [&](const Parameter& parameter, int64_t begin, int64_t elements, const View& to, int64_t at) {
    begin += parameter.elements_before();
    for (int64_t done = 0; done < elements; done += kBlock) {
      const int64_t count = std::min(kBlock, elements - done);
      const View block = to.reshaped({to.elements()}).rows(at + done, count);
      if (stored.size() < block.bytes()) stored.resize(block.bytes());
      workers.parallel_for((count + kPiece - 1) / kPiece, [&](int64_t piece, int) {
        const int64_t first = piece * kPiece, drawn = std::min(kPiece, count - first);
        std::array<float, kPiece> values;
        initial_values(parameter, seed, standard_deviation, begin + done + first, drawn, values.data());
        storage(to.dtype).from_floats(values.data(), stored.data() + bytes_of(to.dtype, first), drawn);
      });
      device.upload(block.data, stored.data(), block.bytes());
    }
  };
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].is_table()) {
      upload_vector(device, masters[i],
                    token_counts.empty()
                        ? random_hash_table(config.vocab_size, config.n_routed_experts, seed, table[i].layer)
                        : balanced_hash_table(token_counts, config.n_routed_experts));
      continue;
    }
    const int64_t elements = table[i].shape.elements();
    if (masters[i].elements() == elements) {
      draw(table[i], 0, elements, masters[i], 0);
      continue;
    }
    draw(table[i], 0, elements, parameters[i], 0);  // the experts that rest have no masters
    const int64_t each = elements / table[i].shape[0];
    for (const ExpertRun& run : table[i].trained_runs()) {
      draw(table[i], run.first * each, run.count * each, masters[i], run.at * each);
    }
  }
}

}  // namespace moe
