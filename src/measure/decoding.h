#pragma once
/// Decoding alone: a model of random weights and a cache that is full already take step after step.

#include <vector>

#include "model/config.h"
#include "ops/backend.h"
#include "ops/device.h"
#include "ops/sampling.h"

namespace moe {

struct DecodingWork {
  ModelConfig model;
  DType dtype = DType::f32;                ///< of activations
  std::vector<DType> weights = {};         ///< of all parameters (measure/model_types.h)
  std::vector<int64_t> batches, contexts;  ///< each size with each length
  int64_t steps = 0;                       ///< timed together
  int repeats = 0;
  SamplingOptions sampling = {.temperature = 0};  ///< how the device chooses tokens
};

/// One size of batch at one length of context.
struct DecodingTime {
  int64_t batch = 0, context = 0;
  double seconds = 0;           ///< of a step: median over the repeats
  double distinct_experts = 0;  ///< routed experts that a step used, mean over the MoE layers
  double bytes = 0;             ///< that a step must read: its weights, each once, and its keys and values
  int64_t kernels = 0;          ///< of a step; 0: not known
};

struct DecodingTimes {
  double read_rate = 0;  ///< bytes of memory per second
  std::vector<DecodingTime> rows;
};

/// Bytes that measure_decoding allocates on its device at once, beside what measures the reading rate.
int64_t decoding_memory(const DecodingWork& work);

/// Errors: there is too little memory.
DecodingTimes measure_decoding(const DecodingWork& work, Device& device, Backend& backend);

/// The bytes that a step of `batch` sequences must read: all weights but those of the input embedding and of the routed
/// experts, one row of the embedding for each sequence, `distinct` routed experts of each MoE layer, and the keys and
/// values of `positions` positions of each sequence. `weights`: the types of all parameters.
double decoding_bytes(const ModelConfig& config, const std::vector<DType>& weights, DType cache, int64_t batch,
                      double positions, double distinct);

}  // namespace moe
