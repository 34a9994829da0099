#include "train/batches.h"

namespace moe {

BatchSource training_batches(const DataConfig& data, uint64_t seed, const Dataset& dataset) {
  return BatchSource(dataset, {.sequence_length = data.sequence_length,
                               .rows_per_step = data.rows_per_step,
                               .seed = seed,
                               .parts = dataset.parts(),
                               .pairs = dataset.info().pairs});
}

}  // namespace moe
