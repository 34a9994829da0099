#pragma once
/// What reading a run file asks a dataset. Tests answer without one.

#include <cstdint>
#include <functional>
#include <string>

#include "train/run_config.h"

namespace moe {

/// The size of the vocabulary of the dataset in a folder.
using DatasetVocabulary = std::function<int64_t(const std::string& folder)>;
int64_t dataset_vocabulary(const std::string& folder);

/// The number of rows in one pass over the dataset of `data`.
using RowsPerEpoch = std::function<int64_t(const DataConfig& data, uint64_t seed)>;
int64_t dataset_rows_per_epoch(const DataConfig& data, uint64_t seed);

}  // namespace moe
