#pragma once
/// A run file (TOML): what `moe train` does. Its keys are the rows of train/run_keys.h and model/keys.h.

#include <functional>
#include <string>
#include <vector>

#include "formats/toml.h"
#include "train/schedule.h"
#include "train/step.h"

namespace moe {

struct DataConfig {
  std::string train;            ///< dataset folder (moe data)
  std::string valid;            ///< dataset folder; "": no evaluation
  int64_t sequence_length = 0;  ///< tokens per row
  int64_t rows_per_step = 0;    ///< the global batch
  int64_t microbatch_rows = 0;  ///< rows that pass through the model together; divides rows_per_step. 0: not settled
                                ///< yet (train/settle.h)
};

struct EvaluationConfig {
  int64_t every = 0;        ///< steps; 0: only after the last step
  int64_t batch_rows = 0;   ///< rows computed together
  bool rows_follow = true;  ///< they are those of a microbatch
  int64_t every_nth = 1;    ///< of the documents
};

struct CheckpointConfig {
  int64_t every = 0;       ///< steps; 0: only after the last step
  double minutes = 15;     ///< the most between two; 0: no limit
  int64_t keep_last = 2;   ///< older checkpoints are removed ...
  int64_t keep_every = 0;  ///< besides, those whose step is a multiple of this; 0: none
};

struct SampleConfig {
  std::vector<std::string> prompts;  ///< none: no samples
  int64_t every = 0;                 ///< steps; samples are also shown before the first and after the last step
  int64_t max_new_tokens = 48;
  double temperature = 0.8;
};

struct RunConfig {
  ModelConfig model;
  StepConfig step;
  Schedule schedule;
  DataConfig data;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  SampleConfig sample;
  uint64_t seed = 1;
  bool balanced_hash = false;  ///< hash tables by the training text's counts, else random
  std::string run_dir = "runs/run";
  std::string preset;                     ///< model.preset; "": none
  std::string method_name;                ///< model.method; "": none
  std::string method;                     ///< the routing method and its settings as one printable line
  std::string resolved;                   ///< all keys in effect, as TOML
  std::vector<std::string> coefficients;  ///< each loss coefficient with its value and source, for people

  /// Something of the microbatch is left to the program, and not settled yet.
  bool chooses_microbatch() const { return data.microbatch_rows == 0 || step.choose_recompute; }
};

/// Makes microbatches of `rows` rows, which divide the rows of a step, and all that follows from it; `resolved` stays.
void set_microbatch(RunConfig& run, int64_t rows, bool recompute);

/// Rows of one pass over the dataset that `data` names.
using RowsPerEpoch = std::function<int64_t(const DataConfig& data, uint64_t seed)>;
int64_t dataset_rows_per_epoch(const DataConfig& data, uint64_t seed);

/// Reads all keys and checks them; unknown, mistyped or inconsistent ones are one UsageError with file, line and a
/// suggestion for each. `dataset_vocabulary` gives model.vocab_size where the file does not (a dataset's);
/// `rows_per_epoch` the steps of train.epochs. They are called only then.
RunConfig read_run_config(Settings& settings,
                          const std::function<int64_t(const std::string& folder)>& dataset_vocabulary,
                          const RowsPerEpoch& rows_per_epoch = dataset_rows_per_epoch);

}  // namespace moe
