#include "train/batches.h"

namespace moe {

BatchSource training_batches(const DataConfig& data, uint64_t seed, const Dataset& dataset) {
  return BatchSource(dataset, {.sequence_length = data.sequence_length,
                               .rows_per_step = data.rows_per_step,
                               .seed = seed,
                               .parts = dataset.parts(),
                               .pairs = dataset.info().pairs});
}

BatchSource timed_batches(const RunConfig& run, const Dataset& dataset) {
  BatchSource source = training_batches(run.data, run.seed, dataset);
  if (run.step.objective == Objective::dpo) {
    source.set_reference(std::vector<double>(static_cast<size_t>(dataset.count())));
  }
  return source;
}

}  // namespace moe
