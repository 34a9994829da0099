#pragma once
/// The memory and computation of a training run, in words, before anything is allocated.

#include <string>

#include "train/run_memory.h"

namespace moe {

/// Parameters by kind, FLOPs of a step by both conventions (model/cost.h), and memory by lifetime with the largest
/// terms at the peak. Several lines.
std::string plan_text(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan);

/// The parts of a run's memory with their names: of the device, of the host, or of both.
std::vector<std::pair<std::string, int64_t>> memory_parts(const RunMemory& memory, bool device, bool host);

/// A line for the steps and one for each other part, with the total at the peak.
std::string run_memory_text(const RunMemory& memory);

}  // namespace moe
