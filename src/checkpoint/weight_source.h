#pragma once
/// A model's weights, read slice by slice from files or drawn at random, for `moe convert` and `moe init` to write.

#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"

namespace moe {

/// A tensor as files have it.
struct StoredTensor {
  std::string name, type;
  std::vector<int64_t> shape;
  int64_t bytes;
  std::string file;  ///< the file's name, without folders

  int64_t elements() const;
};

/// An element as the source has it, for errors.
struct StoredElement {
  std::string file;    ///< with its folders
  std::string tensor;  ///< the name in the file
  int64_t element;     ///< of the tensor
};

/// Weights by parameter and element. Several threads may read at once.
class WeightSource {
 public:
  explicit WeightSource(ModelConfig config);
  virtual ~WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;

  const ModelConfig& config() const { return config_; }
  const std::vector<Parameter>& table() const { return table_; }

  /// The stored type of element `element` of the parameter.
  virtual DType stored(size_t parameter, int64_t element) const = 0;
  /// Where element `element` of the parameter is stored.
  virtual StoredElement place(size_t parameter, int64_t element) const = 0;
  /// Elements [begin, begin + count) of a parameter of floats, as f32.
  virtual void read(size_t parameter, int64_t begin, int64_t count, float* values) const = 0;
  /// The same for a table of integers.
  virtual void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const = 0;
  /// The same elements as they are stored, in whole blocks of one type: that of stored(). Weights that are drawn are
  /// f32.
  virtual void read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const;

  /// Reads the files and throws an Error if one differs from its checksum, if there are checksums beside it
  /// (checkpoint/checksums.h).
  virtual void check_content() const {}

  /// The tensors of the files, in their order; none for weights that come from no file.
  virtual std::vector<StoredTensor> tensors() const { return {}; }

 private:
  ModelConfig config_;
  std::vector<Parameter> table_;
};

/// The type of all elements of a parameter; nothing if its matrices are stored in several.
std::optional<DType> stored_type(const WeightSource& source, size_t parameter);

/// The initial values of training (docs/paper.md section 1), with the config's initializer_range. Models with hash
/// tables are refused, because their tables depend on a dataset. Several threads may read it.
class InitialWeights final : public WeightSource {
 public:
  InitialWeights(const ModelConfig& config, uint64_t seed);

  DType stored(size_t parameter, int64_t element) const override;
  StoredElement place(size_t parameter, int64_t element) const override;
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override;
  void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const override;

 private:
  uint64_t seed_;
};

}  // namespace moe
