#pragma once
/// Several adapters of one model together, in the model's layout (nn/adapter.h).

#include <deque>

#include "checkpoint/adapter_file.h"
#include "checkpoint/weight_source.h"

namespace moe {

/// An adapter and the factor of its change.
struct ChosenAdapter {
  fs::path folder;
  double scale = 1;
};

/// Several threads may use it.
class AdapterSet {
 public:
  /// Opens and checks every adapter, and its factor. One whose factor is 0 changes nothing, not even a bit.
  AdapterSet(const std::vector<ChosenAdapter>& chosen, const ModelConfig& base);

  /// The adapters as one: its rank is the sum of theirs. Of a single adapter it has the scale, so that the sums are
  /// those of training; of several, whose scales differ, each one's is in its B.
  AdapterShapes shapes() const;
  bool changes(size_t parameter) const;
  /// A and B of that one for a parameter of the model's table, in the shapes of nn/adapter.h.
  void fill(size_t parameter, std::vector<float>& a, std::vector<float>& b) const;
  /// Adds what the adapters change in elements [begin, begin + count) of a parameter.
  void add_change(size_t parameter, int64_t begin, int64_t count, float* values) const;

 private:
  int64_t rank(size_t parameter) const;
  /// The scale of all changes of a parameter together; 1 if they have several.
  float scale(size_t parameter) const;

  std::vector<Parameter> table_;
  std::deque<AdapterFile> files_;
  std::vector<float> scales_;  // of files_
};

/// The configuration of a model with these adapters. Every adapter is checked.
ModelConfig read_adapted_config(const fs::path& model, const std::vector<ChosenAdapter>& adapters);

/// Weights with adapters merged into them. Those that change are stored as the source stores them, or in f32 where that
/// is in blocks. Several threads may read it.
class MergedWeights final : public WeightSource {
 public:
  MergedWeights(std::unique_ptr<WeightSource> base, const AdapterSet& adapters);

  DType stored(size_t parameter, int64_t element) const override;
  StoredElement place(size_t parameter, int64_t element) const override;
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override;
  void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const override;
  void read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const override;
  void check_content() const override;

 private:
  std::unique_ptr<WeightSource> base_;
  const AdapterSet& adapters_;
};

}  // namespace moe
