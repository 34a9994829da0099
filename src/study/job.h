#pragma once
/// One job of a study. It is trained, evaluated, and its result is kept as one JSON file.

#include <optional>
#include <string_view>

#include "eval/document_losses.h"
#include "formats/json.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "study/study_file.h"

namespace moe {

/// A point of a job's curve: one evaluation during training.
struct CurvePoint {
  int64_t step = 0;
  double loss = 0;
  double seconds = 0;  ///< of training until then, without evaluations
};

/// An evaluation of the trained model with a switch.
struct SwitchPoint {
  std::string kind;  ///< "mask_sixteenths", "experts_per_token", "drop_shared"
  int64_t value = 0;
  double loss = 0;
};

struct JobResult {
  std::string system;
  int64_t seed = 0;
  double loss = 0;        ///< validation loss, nats per token
  double loss_error = 0;  ///< half of its 95% interval over documents
  double bits_per_byte = 0;
  int64_t total_params = 0;
  int64_t activated_params = 0;
  int64_t flops_per_sequence = 0;         ///< by the paper's convention
  int64_t flops_per_sequence_causal = 0;  ///< FLOPs of the products that are computed
  int64_t sequences_per_step = 0;
  int64_t memory_bytes = 0;  ///< of training, by the plan
  int64_t steps = 0;
  double seconds = 0;             ///< of training
  double tokens_per_second = 0;   ///< median over steps
  double max_over_mean_load = 0;  ///< of the worst layer in the last step
  double dropped = 0;             ///< fraction of the last step's choices
  std::vector<CurvePoint> curve;
  std::vector<SwitchPoint> switches;
  std::string settings;  ///< all keys in effect except run.dir
  /// Of the validation documents, by read_documents(). Empty: diverged, or trained by an older version.
  DocumentLosses documents = {};
  int64_t diverged = 0;  ///< the step at which training diverged and the job ended; 0: it did not diverge

  /// The FLOPs of products until `step`.
  double flops(int64_t step) const {
    return static_cast<double>(flops_per_sequence_causal) * static_cast<double>(sequences_per_step * step);
  }
  /// Nothing if it was not measured.
  std::optional<double> switched_loss(std::string_view kind, int64_t value) const;
};

Json to_json(const JobResult& result);
JobResult job_result_from(const Json& json, const std::string& name);

/// Returns `study.result(job)` if it exists. Otherwise trains the job (resuming an existing run), writes the result,
/// and then removes the run's checkpoints unless the study keeps them. A run or result with other settings is an error.
/// If training diverges, the job ends, and its result says so. Returns nothing if a signal stopped it
/// (InterruptGuard::signal()).
std::optional<JobResult> run_job(const Study& study, const StudyJob& job, Device& device, Backend& backend,
                                 ThreadPool& pool);

/// Throws an Error, which names the system, if a job without a result could not begin: its data, its model and its
/// settings do not fit together, its memory does not fit, or the content of a dataset is not what its dataset.json
/// describes. Each dataset is read once.
void check_jobs(const Study& study, const Device& device);

/// Seconds of a training step of the job, measured on the device.
double measure_rate(const StudyJob& job, Device& device, Backend& backend);

/// The existing result. Its run folder may differ; other settings must agree.
std::optional<JobResult> find_result(const Study& study, const StudyJob& job);

/// Reads the result's `documents`, if the study has their file. Refuses a file that does not belong to the result.
void read_documents(const Study& study, const StudyJob& job, JobResult& result);

/// Refuses a study that keeps checkpoints, if those of a job with a result were removed.
void require_kept_checkpoints(const Study& study);

/// Removes the checkpoints of a job that has a result, unless the study keeps them.
void remove_checkpoints(const Study& study, const StudyJob& job);

}  // namespace moe
