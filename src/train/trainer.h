#pragma once
/// The training loop: data, steps, log, evaluation, checkpoints, samples, resuming.

#include "base/thread_pool.h"
#include "checkpoint/checksums.h"
#include "data/batch_source.h"
#include "eval/document_losses.h"
#include "train/progress.h"
#include "train/reference.h"
#include "train/resume.h"
#include "train/run_folder.h"
#include "train/run_reports.h"
#include "train/start_checks.h"

namespace moe {

/// The loss or the gradients of a step, or the validation loss after it, are no longer finite.
struct Diverged : Error {
  Diverged(int64_t at, const std::string& what) : Error(what), step(at) {}
  int64_t step;
};

/// Use it on one thread at a time.
class Trainer {
 public:
  /// First refuses what cannot be trained or resumed, then allocates all memory (`plan` is plan_training of the run).
  /// With options.resume it continues from the folder's newest good checkpoint, if there is one; otherwise it refuses a
  /// folder that holds a run. `pool` draws the initial weights. `communicator` is of run.step.ranks ranks, which all
  /// make a trainer of the same run. Rank 0 alone writes and prints, and evaluates, unless the ranks divide the routed
  /// experts or the layers; the others read the folder's checkpoint.
  Trainer(const RunConfig& run, const MemoryPlan& plan, const TrainingData& data, Device& device, Backend& backend,
          ThreadPool& pool, const StartOptions& options, Communicator& communicator = one_rank());

  /// 0, or the step of the checkpoint that is resumed.
  int64_t steps_done() const { return done_; }
  /// The batches of the run. They live as long as the trainer.
  const BatchSource& batches() const { return source_; }

  /// Runs to the last step and returns 0. If a signal stops it, also in an evaluation or among samples, writes a
  /// checkpoint of the last complete step and returns 128 + the signal. An
  /// error ends the run with a checkpoint of the last complete step, if it can be written; an error of the step itself,
  /// and a validation loss that is not finite, write none. A signal to one rank stops all of them after the same step.
  int run();

  /// The losses of the validation documents in the last evaluation, which run() makes after the last step. Needs
  /// validation data, and a run that has ended without a signal.
  DocumentLosses last_document_losses() const;

 private:
  bool leads() const { return communicator_.rank() == 0; }
  /// True if no rank has the whole model, so that all of them evaluate and make samples together.
  bool infers_together() const { return run_.step.expert_ranks > 1 || run_.step.stages > 1; }
  /// What rank 0 decides after a step.
  struct AfterStep {
    bool saves, unhealthy;
  };
  void lead(int64_t step, const std::function<void()>& work);
  AfterStep agreed(const AfterStep& own);
  bool trains_on_after(int64_t step) const;
  void stop_if_agreed();
  void stop_between_parts();
  template <class Work>
  auto inferred(const Work& work);
  CheckpointSearch searched(const StartOptions& options);
  void start(ThreadPool& pool);
  void load_base();
  void restore(const FoundCheckpoint& found);
  void go_on_in_folder(const TrainerState& state);
  void find_reference();
  void make_evaluator();
  std::vector<Batch> batches_of(int64_t step) const;
  void run_steps(int64_t& step);
  std::optional<HealthWarning> report(const StepLine& line, ProgressLine& progress);
  int stopped(int64_t step);
  StepLine train_step(int64_t step);
  int run_to_end();
  void end_as_unhealthy(const std::optional<HealthWarning>& warning, int64_t step);
  [[noreturn]] void fail_diverged(const StepLine& line);
  std::string newest_text() const;
  EvaluationResult finite_evaluation(int64_t step);
  void save(int64_t step);
  std::vector<WrittenFile> written_by_all(const std::function<std::vector<WrittenFile>()>& work);
  std::vector<WrittenFile> save_owned(const fs::path& folder);
  WrittenFile save_model(const fs::path& folder);
  WrittenFile save_weights_held(const fs::path& folder);
  std::vector<WrittenFile> save_part(const fs::path& folder);
  Optimizer::NotFinite find_not_finite();
  bool try_to_save(int64_t step);
  bool due_by_time() const;
  void keeping_step(int64_t step, const std::function<void()>& work);
  PreferenceReport preference_of(const EvaluationResult& result) const;
  void evaluate(int64_t step);
  void show_samples(int64_t step);
  bool due(int64_t every, int64_t step) const {
    return step == run_.schedule.steps || (every > 0 && step % every == 0);
  }

  RunConfig run_;
  TrainingData data_;
  Device& device_;
  Backend& backend_;
  Communicator& communicator_;
  RunFolder folder_;
  std::vector<KeyDifference> changes_;
  CheckpointSearch search_;  // the checkpoint that is resumed
  TrainingStep step_;
  std::vector<View> kept_masters_;  // of what a checkpoint keeps; the others are absent
  BatchSource source_;
  uint64_t fingerprint_;           // of the training data
  uint64_t base_fingerprint_ = 0;  // of the weights beside adapters; 0: there are none
  std::unique_ptr<EveryNth> evaluated_;
  Reference reference_;  // of a run of preferences
  std::unique_ptr<Evaluator> evaluator_;
  std::vector<double> document_nats_;    // of the last evaluation
  std::unique_ptr<RunReports> reports_;  // of rank 0
  std::vector<Batch> next_;              // of the step after the last one, if it was made already
  int signal_ = 0;                       // the signal that all ranks know of
  bool others_wait_ = false;             // an error came where the other ranks need this one
  int64_t done_ = 0;                     // steps
  int64_t saved_ = 0;                    // the step of the newest checkpoint
  double tried_at_ = 0;                  // seconds, when a checkpoint was last written or tried
};

}  // namespace moe
