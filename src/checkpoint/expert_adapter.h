#pragma once
/// The adapter of a model whose listed experts were trained (ESFT), in the published layout: a folder with
/// expert_cfg.json (checkpoint/expert_list.h), and the tensors that the list names, under their Hugging Face names, in
/// safetensors files. Names without their first "model." are read too, and those of another family than the model's.

#include <memory>

#include "checkpoint/expert_list.h"
#include "checkpoint/tensor_files.h"
#include "checkpoint/weight_source.h"
#include "checkpoint/write_model.h"

namespace moe {

/// Writes FOLDER/expert_cfg.json and FOLDER/adapter.safetensors with what `list` names of the source.
std::vector<WrittenKind> write_expert_adapter(const fs::path& folder, const WeightSource& source,
                                              const ExpertList& list, const WriteOptions& options, ThreadPool& pool);

/// A model with the tensors of an adapter instead of its own. Several threads may read it.
class AdaptedWeights final : public WeightSource {
 public:
  /// An error if the adapter does not have exactly what its list names of this model.
  AdaptedWeights(std::unique_ptr<WeightSource> base, const fs::path& adapter);

  DType stored(size_t parameter, int64_t element) const override;
  StoredElement place(size_t parameter, int64_t element) const override;
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override;
  void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const override;
  void read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const override;
  void check_content() const override { base_->check_content(); }

 private:
  /// Elements [begin, end) of a parameter that the adapter has.
  struct Part {
    int64_t begin, end;
    const SafetensorsFile* file;
    const SafetensorsTensor* tensor;
    const StorageType* type;
  };
  /// The part with an element; null if it is the base's.
  const Part* part_with(size_t parameter, int64_t element) const;
  /// The first element behind `element` that another part has, or `end`.
  int64_t end_of(size_t parameter, int64_t element, int64_t end) const;

  std::unique_ptr<WeightSource> base_;
  TensorFiles files_;
  std::vector<std::vector<Part>> parts_;  // by parameter, in order
};

}  // namespace moe
