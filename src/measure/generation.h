#pragma once
/// Generation with a model of random weights and random tokens: the pass of a prompt, and then token by token.

#include <optional>
#include <vector>

#include "model/config.h"
#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

struct GenerationWork {
  ModelConfig model;
  DType dtype = DType::f32;         ///< of activations
  std::vector<DType> weights = {};  ///< of all parameters (measure/model_types.h)
  int64_t prompt = 0, tokens = 0;   ///< tokens of the prompt, and tokens after it
  int repeats = 0;                  ///< after one that is not timed
  int64_t product = 0;              ///< size of the square product to compare with; 0: none
  std::optional<DType> cache = {};  ///< the type of the cache; absent: that of activations
};

struct GenerationTimes {
  double prompt = 0, token = 0;  ///< seconds of the whole prompt and of one token after it: medians over the repeats
  double product_rate = 0;       ///< FLOP/s; 0: not measured
  double read_rate = 0;          ///< bytes of memory per second
};

/// Bytes that measure_generation allocates on its device at once, beside what measures the machine's rates.
int64_t generation_memory(const GenerationWork& work);

GenerationTimes measure_generation(const GenerationWork& work, Device& device, Backend& backend);

}  // namespace moe
