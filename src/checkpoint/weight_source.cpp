#include "checkpoint/weight_source.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "checkpoint/checksums.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weight_files.h"
#include "checkpoint/weights.h"

namespace moe {

int64_t StoredTensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

WeightSource::WeightSource(ModelConfig config) : config_(std::move(config)), table_(parameter_table(config_)) {}

FolderWeights::FolderWeights(const fs::path& folder)
    : WeightSource(read_hf_config(folder)), files_(weight_files(folder)), pieces_(table().size()) {
  check_weights(files_, config(), table());
  for (const HfTensor& tensor : hf_tensors(config(), table(), [&](const auto& name) { return files_.has(name); })) {
    const auto [file, found] = files_.find(tensor.name);
    pieces_[tensor.parameter].push_back({.begin = tensor.offset,
                                         .end = tensor.offset + tensor.elements(),
                                         .file = file,
                                         .tensor = found,
                                         .dtype = safetensors_type(found->dtype)->dtype});
  }
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

DType FolderWeights::stored(size_t parameter, int64_t element) const {
  return piece_with(pieces_[parameter], element).dtype;
}

StoredElement FolderWeights::place(size_t parameter, int64_t element) const {
  const Piece& piece = piece_with(pieces_[parameter], element);
  return {piece.file->path().string(), piece.tensor->name, element - piece.begin};
}

void FolderWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  for (int64_t at = begin; at < begin + count;) {
    const Piece& piece = piece_with(pieces_[parameter], at);
    const int64_t end = std::min(begin + count, piece.end);
    storage(piece.dtype)
        .to_floats(piece.tensor->data + bytes_of(piece.dtype, at - piece.begin), values + (at - begin), end - at);
    at = end;
  }
}

void FolderWeights::read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const {
  const Piece& piece = piece_with(pieces_[parameter], begin);
  MOE_CHECK(piece.dtype == DType::i32 && begin + count <= piece.end);
  std::memcpy(values, piece.tensor->data + (begin - piece.begin) * 4, static_cast<size_t>(count) * 4);
}

InitialWeights::InitialWeights(const ModelConfig& config, uint64_t seed) : WeightSource(config), seed_(seed) {
  for (const Parameter& parameter : table()) {
    if (!parameter.is_table()) continue;
    fail("{} is a table of a hash router, which follows from a dataset; train the model with `moe train` instead",
         parameter.name);
  }
}

DType InitialWeights::stored(size_t, int64_t) const { return DType::f32; }

StoredElement InitialWeights::place(size_t parameter, int64_t element) const {
  return {"the initial weights", table()[parameter].name, element};
}

void InitialWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  initial_values(table()[parameter], seed_, config().initializer_range, begin, count, values);
}

void InitialWeights::read(size_t, int64_t, int64_t, int32_t*) const { MOE_CHECK(!"there are no tables"); }

}  // namespace moe
