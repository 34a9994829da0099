#pragma once
/// Reads a run file. Its keys are the rows of train/run_keys.h and model/keys.h.

#include "formats/toml.h"
#include "train/dataset_facts.h"
#include "train/run_start.h"

namespace moe {

/// Reads all keys and checks them. Unknown, mistyped and inconsistent keys are reported in one UsageError, each with
/// file, line and a suggestion. `vocabulary` gives model.vocab_size if the file does not; `rows_per_epoch` gives the
/// steps for train.epochs. They are called only if needed. `start` has what the run begins with, beside its data.
RunConfig read_run_config(Settings& settings, const DatasetVocabulary& vocabulary = dataset_vocabulary,
                          const RowsPerEpoch& rows_per_epoch = dataset_rows_per_epoch, const RunStart& start = {});

}  // namespace moe
