#pragma once
/// The stored types of the parameters of a model that is measured.

#include <vector>

#include "checkpoint/gguf_types_of.h"
#include "model/parameters.h"

namespace moe {

/// The types of all parameters, in the order of parameter_table(): weights of one type, one of weight_types()
/// (ops/type_set.h), which norms and routers may not have.
std::vector<DType> types_of_weights(const ModelConfig& config, DType weights);

/// As a GGUF file of this quantisation has them on a device (infer/weight_types.h, stored_types). `others`: the type of
/// matrices that are not in blocks.
std::vector<DType> types_of_file(const ModelConfig& config, const Quantization& quantization, DType others);

/// What weights of these types allocate.
int64_t bytes_of_weights(const ModelConfig& config, const std::vector<DType>& types);

}  // namespace moe
