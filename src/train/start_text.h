#pragma once
/// The twelve lines that a run prints before its first step.

#include <optional>
#include <string>
#include <vector>

#include "data/batch_source.h"
#include "train/run_memory.h"
#include "train/start_checks.h"

namespace moe {

struct BeforeRun {
  const RunConfig& run;
  const RunMemory& memory;
  const Dataset* train = nullptr;  ///< null: not given, as in a dry run
  const Dataset* valid = nullptr;
  std::string device;                        ///< the name of the device that computes
  int64_t available_bytes = 0;               ///< of memory
  double product_rate = 0;                   ///< FLOP/s of one product, measured on the device
  std::optional<int64_t> resumed_step = {};  ///< nothing: a new run
  std::vector<double> part_epochs = {};      ///< passes over each of several datasets
};

/// How often `steps` steps pass over each of several datasets; empty for a single one.
std::vector<double> part_epochs(const BatchSource& batches, int64_t steps);

/// Twelve lines, each beginning with a word: run, device, model, data, steps, epochs, schedule, losses, compute, time,
/// memory, checkpoints. The time is an estimate, and the line says so.
std::string start_text(const BeforeRun& before);

/// Warnings: more than four epochs of a dataset, a disk without room for the checkpoints, tensors that cannot have the
/// type of lora.base. One sentence each.
std::vector<std::string> start_warnings(const BeforeRun& before);

/// FLOPs of one step, its optimiser among them.
double step_flops(const RunConfig& run, const MemoryPlan& plan);

/// Seconds per step, estimated from the rate of one product.
double estimated_step_seconds(const RunConfig& run, const MemoryPlan& plan, double product_rate);

/// Bytes of one checkpoint's weights and optimiser state.
int64_t checkpoint_bytes(const ModelConfig& config, const StepConfig& step);

}  // namespace moe
