#pragma once
/// The training loop: data, steps, log, evaluation, checkpoints, samples, resuming.

#include "data/batch_source.h"
#include "data/shards.h"
#include "tokenizer/tokenizer.h"
#include "train/run_config.h"
#include "train/run_folder.h"
#include "train/training_log.h"

namespace moe {

/// What a run reads; all must outlive the trainer.
struct TrainingData {
  const Dataset& train;
  const Dataset* valid;        ///< null: no evaluation
  const Tokenizer& tokenizer;  ///< of the train dataset
};

class Trainer {
 public:
  /// Allocates all memory (`plan` is plan_training of the run). With `resume` continues from the folder's newest
  /// checkpoint, if it has one; else refuses a folder that holds a run.
  Trainer(const RunConfig& run, const MemoryPlan& plan, const TrainingData& data, Device& device, Backend& backend,
          bool resume);

  /// Runs to the last step; 0, or 128 + the signal that stopped it, with a checkpoint written.
  int run();

 private:
  void restore(int64_t step);
  StepLine train_step(int64_t step);
  void save(int64_t step);
  void evaluate(int64_t step);
  void show_samples(int64_t step);
  bool due(int64_t every, int64_t step) const {
    return step == run_.schedule.steps || (every > 0 && step % every == 0);
  }

  RunConfig run_;
  TrainingData data_;
  Device& device_;
  Backend& backend_;
  RunFolder folder_;
  TrainingStep step_;
  BatchSource source_;
  std::unique_ptr<Documents> evaluated_;
  std::unique_ptr<Evaluator> evaluator_;
  int64_t done_ = 0;  // steps
};

}  // namespace moe
