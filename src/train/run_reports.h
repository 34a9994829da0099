#pragma once
/// What a run tells about itself while it runs: log.jsonl, eval.jsonl, samples.jsonl, warnings.jsonl, status.json,
/// events for TensorBoard.

#include <memory>
#include <optional>
#include <string>

#include "train/health.h"
#include "train/patient_log.h"
#include "train/resume.h"
#include "train/routing_alarm.h"
#include "train/run_folder.h"
#include "train/samples.h"
#include "train/start_checks.h"
#include "train/training_log.h"

namespace moe {

/// How a run stands. "diverged": the loss or a gradient is no longer finite.
enum class RunState { running, done, stopped, diverged, failed };
const char* name(RunState state);

/// Lengths of the two logs, in bytes.
struct LogLengths {
  int64_t log = 0, evaluations = 0;
};

/// Use it on one thread at a time.
class RunReports {
 public:
  /// Opens the logs, drops samples and warnings of later steps, and writes a line about the run. `first_step` is the
  /// first step of this process, `plan` is of one step. `run` must outlive the reports.
  RunReports(const RunFolder& folder, const RunConfig& run, const MemoryPlan& plan, const TrainingData& data,
             const StartOptions& options, int64_t first_step);

  /// Logs a step and prints what is unhealthy about it, each kind once. Returns the warning that ends the run
  /// (health.stop_on), if there is one.
  std::optional<HealthWarning> step(const StepLine& line);
  /// Logs a step whose loss or gradient is not finite.
  void diverged(const StepLine& line);
  void evaluation(int64_t step, const EvaluationResult& result, const std::optional<PreferenceReport>& preference = {});

  void samples(int64_t step, const std::vector<Sample>& samples);

  /// Waits until every line of the two logs is on the disk. (Nothing depends on the events.)
  LogLengths sync();
  /// Writes status.json; `why` is an error's sentence. Then, if the run has ended, runs the command run.on_end.
  void set_state(RunState state, const std::string& why = "");

 private:
  void write_status();
  void keep(const HealthWarning& warning, int64_t step);
  void write_events(const StepLine& line);
  std::string events_name() const;

  const RunConfig& run_;
  fs::path folder_;
  PatientLog log_, evaluations_;
  std::unique_ptr<PatientLog> events_, samples_, warnings_;  // the last two: from their first line on
  Health health_;
  RoutingAlarm alarm_;
  int64_t events_every_;  // steps
  RunState state_ = RunState::running;
  int64_t step_ = 0;
  double loss_ = 0, status_at_ = 0;
  std::string last_warning_, why_;
  bool status_failed_ = false;
};

}  // namespace moe
