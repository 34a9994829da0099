#include "train/dataset_facts.h"

#include "base/error.h"
#include "data/batch_source.h"
#include "data/shards.h"

namespace moe {

int64_t dataset_vocabulary(const std::string& folder) { return Dataset(folder).info().vocab_size; }

int64_t dataset_rows_per_epoch(const DataConfig& data, uint64_t seed) {
  if (data.train.empty()) fail_usage("train.epochs needs a dataset to pass over; give data.train");
  const Dataset dataset(data.train);
  return BatchSource(dataset, {.sequence_length = data.sequence_length,
                               .rows_per_step = data.rows_per_step,
                               .seed = seed,
                               .parts = dataset.parts()})
      .rows_per_epoch();
}

}  // namespace moe
