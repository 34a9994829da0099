#pragma once
/// Weights and optimiser state in safetensors files under Hugging Face names.

#include "base/file.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/tensor_files.h"
#include "ops/device.h"

namespace moe {

/// A set of tensors shaped like the parameters, for instance the weights or a moment, on a device.
struct ParameterSet {
  std::string suffix;  ///< behind the Hugging Face name: "" for weights, ".exp_avg" ...
  const std::vector<View>& views;
};

/// Compares files with the parameters of a model. Every tensor is accounted for: a missing, extra or wrongly shaped
/// one, one that is not F32, BF16 or F16, or a hash table (I32) that names an expert that the model does not have, is
/// an error that names it.
void check_weights(const TensorFiles& files, const ModelConfig& config, const std::vector<Parameter>& table);

/// Fills `views` (in the order of `table`, any float type) from FOLDER's weight_files(), after check_weights().
void load_weights(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                  const std::vector<View>& views, Device& device);

/// Bytes of host memory that saving takes: a copy of the largest tensor in f32.
int64_t saving_bytes(const ModelConfig& config, const std::vector<Parameter>& table);

/// Writes FOLDER/model.safetensors, complete or absent.
void save_weights(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                  const std::vector<View>& views, Device& device);

inline constexpr int64_t kOptimizerFileBytes = int64_t{4} << 30;

/// FOLDER/optimizer-00001-of-0000N.safetensors with {hf_name}.{master,exp_avg,exp_avg_sq}, of at most `most_bytes` of
/// tensors each, or of one larger tensor.
void save_optimizer(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                    const std::vector<ParameterSet>& sets, Device& device, int64_t most_bytes = kOptimizerFileBytes);
void load_optimizer(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                    const std::vector<ParameterSet>& sets, Device& device);

}  // namespace moe
