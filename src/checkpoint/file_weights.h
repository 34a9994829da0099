#pragma once
/// Weights in mapped files. Several threads may read them.

#include "base/file.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/tensor_files.h"
#include "checkpoint/weight_source.h"

namespace moe {

/// Each parameter consists of pieces, which are rows of tensors of files.
class FileWeights : public WeightSource {
 public:
  DType stored(size_t parameter, int64_t element) const override;
  StoredElement place(size_t parameter, int64_t element) const override;
  void read(size_t parameter, int64_t begin, int64_t count, float* values) const override;
  void read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const override;
  void read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const override;

 protected:
  struct Piece {
    int64_t begin, end;  ///< elements of the parameter
    DType dtype;
    const fs::path* file;       ///< the derived class keeps it open
    const std::string* tensor;  ///< the name there
    const std::byte* data;      ///< the tensor's first row
    int64_t width;              ///< of a row
    GgufPart rows = {};         ///< where the piece's rows are in the tensor; by default they are its rows, in order

    /// The tensor's row that holds the piece's row `row`.
    int64_t row_in_file(int64_t row) const { return rows.row + our_row_to_gguf(rows, row); }
  };

  explicit FileWeights(ModelConfig config);
  void add(size_t parameter, const Piece& piece);
  /// After the last piece.
  void sort_pieces();

 private:
  const Piece& piece_with(size_t parameter, int64_t element) const;
  /// Calls use(piece, address of the row, column, count, elements before) for the parts of rows of [begin, end).
  template <class Use>
  void for_parts_of_rows(size_t parameter, int64_t begin, int64_t count, Use use) const;

  std::vector<std::vector<Piece>> pieces_;  // by parameter, in order
};

/// The weights of a model folder. The constructor checks config.json and every tensor as load_weights() does.
class FolderWeights final : public FileWeights {
 public:
  explicit FolderWeights(const fs::path& folder);

  void check_content() const override;
  std::vector<StoredTensor> tensors() const override;

 private:
  TensorFiles files_;
};

}  // namespace moe
