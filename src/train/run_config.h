#pragma once
/// The content of a run file (TOML), which says what `moe train` does. train/read_run_config.h reads it.

#include <string>
#include <vector>

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
  int64_t batch_rows = 0;   ///< rows that are computed together
  bool rows_follow = true;  ///< true: the same number as in a microbatch
  int64_t every_nth = 1;    ///< of the documents
};

struct CheckpointConfig {
  int64_t every = 0;       ///< steps; 0: only after the last step
  double minutes = 15;     ///< largest number of minutes between two; 0: no limit
  int64_t keep_last = 2;   ///< older checkpoints are removed ...
  int64_t keep_every = 0;  ///< also keep those whose step is a multiple of this; 0: none
};

struct SampleConfig {
  std::vector<std::string> prompts;  ///< none: no samples
  int64_t every = 0;                 ///< steps; samples are also shown before the first and after the last step
  int64_t max_new_tokens = 48;
  double temperature = 0.8;
};

struct LogConfig {
  bool tensorboard = true;     ///< event files for TensorBoard beside the log
  int64_t counts_every = 100;  ///< steps between lines with the tokens of every expert; 0: none
};

struct HealthConfig {
  std::vector<std::string> stop_on;  ///< kinds of warnings (train/health.h) that end the run
};

struct RunConfig {
  ModelConfig model;
  StepConfig step;
  Schedule schedule;
  DataConfig data;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  SampleConfig sample;
  LogConfig log;
  HealthConfig health;
  uint64_t seed = 1;
  bool balanced_hash = false;  ///< true: hash tables are balanced by the training text's counts; false: random
  std::string run_dir = "runs/run";
  std::string on_end;       ///< a command of the shell for the end of the run; "": none
  std::string preset;       ///< model.preset; "": none
  std::string from;         ///< model.from: the run begins with this model's weights; "": with random ones
  std::string kept_in;      ///< the checkpoint that has what the run began with; "": the run begins
  std::string method_name;  ///< model.method; "": none
  std::string method;       ///< the routing method and its settings as one printable line
  std::string resolved;     ///< all keys in effect, as TOML
  std::vector<std::string> coefficients;  ///< each loss coefficient with its value and source, for people

  /// True if the program still has to choose the microbatch.
  bool chooses_microbatch() const { return data.microbatch_rows == 0 || step.choose_recompute; }
};

/// Sets microbatches of `rows` rows, which must divide the rows of a step, and everything that depends on it. Does not
/// change `resolved`.
void set_microbatch(RunConfig& run, int64_t rows, bool recompute);

}  // namespace moe
