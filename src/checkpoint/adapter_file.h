#pragma once
/// A LoRA adapter's tensors, checked against the model that it changes.

#include <memory>

#include "checkpoint/adapter_config.h"
#include "formats/safetensors.h"
#include "model/parameters.h"

namespace moe {

/// The matrices A and B of one slice of one matrix (of one expert), in the memory of a mapped file: element (k, i) of A
/// is a[(a_row + k) I + i], element (o, k) of B is b[(b_row + o) W + b_column + k b_step], where W is the width of b.
struct AdapterSlice {
  const SafetensorsTensor* a = nullptr;
  const SafetensorsTensor* b = nullptr;
  int64_t rank = 0;  ///< 0: the slice has no adapter
  float scale = 1;   ///< the factor of B A
  int64_t a_row = 0, b_row = 0, b_column = 0, b_step = 1;

  /// Row k of A [I], as f32.
  void read_a(int64_t k, float* values) const;
  /// Row o of B [rank], as f32.
  void read_b(int64_t o, float* values) const;
};

/// Several threads may read it.
class AdapterFile {
 public:
  /// Opens FOLDER, an adapter in PEFT's form: of modules, and of all experts of a layer as one parameter
  /// (target_parameters). Every tensor must belong to a linear map of `base`, which has no adapters itself, and have
  /// its sizes. An error names the tensor.
  AdapterFile(const fs::path& folder, const ModelConfig& base);

  const AdapterConfig& config() const { return config_; }
  /// The slices of a parameter of the model's table, expert by expert; empty if it has no adapter.
  const std::vector<AdapterSlice>& slices(size_t parameter) const { return slices_[parameter]; }

 private:
  class Reader;

  AdapterConfig config_;
  SafetensorsFile file_;
  std::vector<std::vector<AdapterSlice>> slices_;
};

}  // namespace moe
