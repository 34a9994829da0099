#pragma once
/// Models in GGUF files, named as llama.cpp names them.

#include <memory>
#include <vector>

#include "checkpoint/weight_source.h"
#include "formats/gguf.h"
#include "ops/device.h"

namespace moe {

/// The weights of a GGUF file, or of the first of several, mapped. The constructor checks the metadata and every
/// tensor: a missing, extra or wrongly shaped one, or one of a type that this program does not work with, is an error
/// that names it.
class GgufWeights final : public WeightSource {
 public:
  explicit GgufWeights(const fs::path& path);

  DType stored(size_t parameter, int64_t element) const override;
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override;
  void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const override;

  const std::vector<GgufFile>& files() const { return files_; }

 private:
  /// Rows [row, row + rows) of a tensor as a run of a parameter's rows. With `heads`, the rows of each head are
  /// interleaved in the file: row 2 i + p there is row p half + i here.
  struct Piece {
    int64_t begin, end;  ///< elements of the parameter
    const GgufTensor* tensor;
    int64_t row;
    int64_t width;
    int64_t heads;
  };
  explicit GgufWeights(std::vector<GgufFile> files);
  void read_row(const Piece& piece, int64_t row, int64_t column, int64_t count, float* values) const;
  friend class GgufPieces;

  std::vector<GgufFile> files_;
  std::vector<std::vector<Piece>> pieces_;  ///< by parameter, in order
};

/// Whether a path names a GGUF file and not a folder.
bool is_gguf(const fs::path& path);

/// A model folder's weights, or a GGUF file's.
std::unique_ptr<WeightSource> open_weights(const fs::path& path);

/// Fills `views` (in the order of the source's table, any types) through f32.
void load_weights(const WeightSource& source, const std::vector<View>& views, Device& device);

}  // namespace moe
