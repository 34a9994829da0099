#include "train/dataset_facts.h"

#include "base/error.h"
#include "train/batches.h"

namespace moe {

int64_t dataset_vocabulary(const std::string& folder) { return Dataset(folder).info().vocab_size; }

int64_t dataset_rows_per_epoch(const DataConfig& data, uint64_t seed) {
  if (data.train.empty()) fail_usage("train.epochs needs a dataset to pass over; give data.train");
  const Dataset dataset(data.train);
  return training_batches(data, seed, dataset).rows_per_epoch();
}

}  // namespace moe
