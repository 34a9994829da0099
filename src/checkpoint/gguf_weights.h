#pragma once
/// Models in GGUF files, named as llama.cpp names them.

#include <vector>

#include "checkpoint/gguf_names.h"
#include "checkpoint/weight_source.h"
#include "formats/gguf.h"
#include "ops/device.h"

namespace moe {

/// The weights of a GGUF file, or of the first of several, mapped. The constructor checks the metadata and every
/// tensor: a missing, extra or wrongly shaped one, or one of a type that this program does not work with, is an error
/// that names it. Several threads may read it.
class GgufWeights final : public WeightSource {
 public:
  explicit GgufWeights(const fs::path& path);

  DType stored(size_t parameter, int64_t element) const override;
  StoredElement place(size_t parameter, int64_t element) const override;
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override;
  void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const override;

  std::vector<StoredTensor> tensors() const override;

 private:
  struct Piece {
    int64_t begin, end;  ///< elements of the parameter
    const GgufFile* file;
    const GgufTensor* tensor;
    GgufPart part;

    /// The tensor's row that holds the piece's row `row`.
    int64_t row_in_file(int64_t row) const;
  };
  explicit GgufWeights(std::vector<GgufFile> files);
  struct Place {
    const GgufFile* file;
    const GgufTensor* tensor;
  };
  Place find(const GgufName& name) const;
  void refuse_others(const std::vector<GgufName>& names) const;
  void read_row(const Piece& piece, int64_t row, int64_t column, int64_t count, float* values) const;

  std::vector<GgufFile> files_;
  std::vector<std::vector<Piece>> pieces_;  ///< by parameter, in order
};

/// Fills `views` (in the order of the source's table, any types) through f32. Weights that are not finite, and those
/// that a view's type cannot hold, are an error that names `path` and the parameter.
void load_weights(const WeightSource& source, const fs::path& path, const std::vector<View>& views, Device& device);

}  // namespace moe
