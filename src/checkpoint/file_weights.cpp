#include "checkpoint/file_weights.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "checkpoint/checksums.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weight_files.h"
#include "checkpoint/weights.h"

namespace moe {

FileWeights::FileWeights(ModelConfig config) : WeightSource(std::move(config)), pieces_(table().size()) {}

void FileWeights::add(size_t parameter, const Piece& piece) { pieces_[parameter].push_back(piece); }

void FileWeights::sort_pieces() {
  for (auto& pieces : pieces_) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  }
}

const FileWeights::Piece& FileWeights::piece_with(size_t parameter, int64_t element) const {
  const std::vector<Piece>& pieces = pieces_[parameter];
  const auto after = std::upper_bound(pieces.begin(), pieces.end(), element,
                                      [](int64_t at, const Piece& piece) { return at < piece.begin; });
  MOE_CHECK(after != pieces.begin());
  return *std::prev(after);
}

DType FileWeights::stored(size_t parameter, int64_t element) const { return piece_with(parameter, element).dtype; }

StoredElement FileWeights::place(size_t parameter, int64_t element) const {
  const Piece& piece = piece_with(parameter, element);
  const int64_t at = element - piece.begin;
  return {piece.file->string(), *piece.tensor, piece.row_in_file(at / piece.width) * piece.width + at % piece.width};
}

namespace {

/// `count` values of a row from its element `column` on.
void read_row(const StorageType& type, const std::byte* row, int64_t column, int64_t count, float* values) {
  const int64_t first = column / type.block * type.block, last = column + count;
  const std::byte* const data = row + bytes_of(type.dtype, first);
  if (first == column && last % type.block == 0) return type.to_floats(data, values, count);
  std::vector<float> blocks(static_cast<size_t>((last - first + type.block - 1) / type.block * type.block));
  type.to_floats(data, blocks.data(), static_cast<int64_t>(blocks.size()));
  std::copy_n(blocks.begin() + (column - first), count, values);
}

}  // namespace

template <class Use>
void FileWeights::for_parts_of_rows(size_t parameter, int64_t begin, int64_t count, Use use) const {
  for (int64_t at = begin; at < begin + count;) {
    const Piece& piece = piece_with(parameter, at);
    const int64_t row = (at - piece.begin) / piece.width, column = (at - piece.begin) % piece.width;
    const int64_t here = std::min(piece.width - column, begin + count - at);
    use(piece, piece.data + bytes_of(piece.dtype, piece.row_in_file(row) * piece.width), column, here, at - begin);
    at += here;
  }
}

void FileWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  for_parts_of_rows(parameter, begin, count,
                    [&](const Piece& piece, const std::byte* row, int64_t column, int64_t here, int64_t before) {
                      read_row(storage(piece.dtype), row, column, here, values + before);
                    });
}

void FileWeights::read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const {
  const DType type = stored(parameter, begin);
  for_parts_of_rows(parameter, begin, count,
                    [&](const Piece& piece, const std::byte* row, int64_t column, int64_t here, int64_t before) {
                      const int64_t block = storage(type).block;
                      MOE_CHECK(piece.dtype == type && column % block == 0 && here % block == 0);
                      std::memcpy(static_cast<char*>(bytes) + bytes_of(type, before), row + bytes_of(type, column),
                                  static_cast<size_t>(bytes_of(type, here)));
                    });
}

void FileWeights::read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const {
  const Piece& piece = piece_with(parameter, begin);
  MOE_CHECK(piece.dtype == DType::i32 && begin + count <= piece.end);
  std::memcpy(values, piece.data + (begin - piece.begin) * 4, static_cast<size_t>(count) * 4);
}

FolderWeights::FolderWeights(const fs::path& folder)
    : FileWeights(read_hf_config(folder)), files_(open_weight_files(folder, config())) {
  check_weights(files_, config(), table());
  for (const HfTensor& tensor : hf_tensors(config(), table(), [&](const auto& name) { return files_.has(name); })) {
    const auto [file, found] = files_.find(tensor.name);
    add(tensor.parameter, {.begin = tensor.offset,
                           .end = tensor.offset + tensor.elements(),
                           .dtype = safetensors_type(found->dtype)->dtype,
                           .file = &file->path(),
                           .tensor = &found->name,
                           .data = found->data,
                           .width = std::max<int64_t>(tensor.elements(), 1)});
  }
  sort_pieces();
}

void FolderWeights::check_content() const {
  std::vector<fs::path> paths;
  for (const SafetensorsFile& file : files_.files()) paths.push_back(file.path());
  check_checksums(paths.front().parent_path(), paths);
}

std::vector<StoredTensor> FolderWeights::tensors() const {
  std::vector<StoredTensor> tensors;
  for (const SafetensorsFile& file : files_.files()) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      tensors.push_back({tensor.name, tensor.dtype, tensor.shape, static_cast<int64_t>(tensor.bytes),
                         file.path().filename().string()});
    }
  }
  return tensors;
}

}  // namespace moe
