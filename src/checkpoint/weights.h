#pragma once
/// Weights and optimiser state in safetensors files under Hugging Face names.

#include <functional>

#include "base/file.h"
#include "checkpoint/checksums.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/tensor_files.h"
#include "ops/device.h"

namespace moe {

/// A set of tensors with the shapes of the parameters on a device, for instance the weights or a moment.
struct ParameterSet {
  std::string suffix;  ///< suffix of the Hugging Face name: "" for weights, ".exp_avg" ...
  const std::vector<View>& views;
  /// Where a view has only the experts that train (Parameter::trained_shape), the whole parameter, which has the
  /// others; null: the set does not have those.
  const std::vector<View>* rest = nullptr;
};

/// Compares files with the parameters of a model. Every tensor must be accounted for. A tensor that is missing, extra,
/// of another shape, or not of one of folder_types() (checkpoint/file_types.h) is an error that names it. So is a hash
/// table (I32) with an expert that the model does not have.
void check_weights(const TensorFiles& files, const ModelConfig& config, const std::vector<Parameter>& table);

/// Fills `views` (in the order of `table`, of any float type) from FOLDER's weight_files(), after check_weights() and
/// check_checksums() of them.
void load_weights(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                  const std::vector<View>& views, Device& device);

/// The bytes of host memory that saving needs: a copy of the largest tensor in f32.
int64_t saving_bytes(const ModelConfig& config, const std::vector<Parameter>& table);

/// Of files that several ranks write into one folder: how many come before those of this one, and how many there are.
struct FileNumbers {
  size_t before = 0, all = 0;
};

/// Writes the views that are present to FOLDER/model.safetensors, or, if it is one of several files, to
/// FOLDER/model-0000I-of-0000N.safetensors: complete or absent.
WrittenFile save_weights(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                         const std::vector<View>& views, Device& device, const FileNumbers& numbers = {0, 1});
/// Writes FOLDER/model.safetensors.index.json, which says which tensor is in which of FOLDER/model-*.safetensors.
void save_weight_index(const fs::path& folder);

inline constexpr int64_t kOptimizerFileBytes = int64_t{4} << 30;

/// Writes FOLDER/optimizer-00001-of-0000N.safetensors and so on, with {hf_name}.{master} and the optimiser's slots. A
/// file has at most `most_bytes` of tensors, or one larger tensor. `numbered` gets the number of files to write; empty:
/// there are no others.
std::vector<WrittenFile> save_optimizer(const fs::path& folder, const ModelConfig& config,
                                        const std::vector<Parameter>& table, const std::vector<ParameterSet>& sets,
                                        Device& device, int64_t most_bytes = kOptimizerFileBytes,
                                        const std::function<FileNumbers(size_t)>& numbered = {});
/// `held`: of the table, whose tensors must all be wanted; empty: all. What the files have of others may stay unread.
void load_optimizer(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                    const std::vector<ParameterSet>& sets, Device& device, const std::vector<bool>& held = {});

}  // namespace moe
