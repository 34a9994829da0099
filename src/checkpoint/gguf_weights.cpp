#include "checkpoint/gguf_weights.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "checkpoint/finite_weights.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/proportion.h"

namespace moe {
namespace {

std::vector<GgufFile> open_in_proportion(const fs::path& path) {
  std::vector<GgufFile> files = open_gguf(path);
  std::vector<fs::path> paths;
  for (const GgufFile& file : files) paths.push_back(file.path());
  require_in_proportion(parameter_table(gguf_model_config(files)), paths);
  return files;
}

}  // namespace

GgufWeights::GgufWeights(const fs::path& path) : GgufWeights(open_in_proportion(path)) {}

GgufWeights::GgufWeights(std::vector<GgufFile> files)
    : WeightSource(gguf_model_config(files)), files_(std::move(files)), pieces_(table().size()) {
  const std::vector<GgufName> names = gguf_names(config(), table());
  for (const GgufName& name : names) {
    const GgufTensor& tensor = find(name);
    for (const GgufPart& part : name.parts) {
      pieces_[part.parameter].push_back({part.begin, part.begin + part.rows * name.width(), &tensor, part});
    }
  }
  for (auto& pieces : pieces_) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  }
  refuse_others(names);
}

const GgufTensor& GgufWeights::find(const GgufName& name) const {
  for (const GgufFile& file : files_) {
    const GgufTensor* const tensor = file.find(name.name);
    if (tensor == nullptr) continue;
    if (tensor->shape != name.shape) {
      fail("{}: {} is {}, expected [{}] from the metadata", file.path().string(), name.name, tensor->text(),
           fmt::join(name.shape, ", "));
    }
    if (tensor->type == nullptr || !is_float(tensor->type->dtype)) {
      fail("{}: {} is {}, a type that this program does not compute with; write the file in another type",
           file.path().string(), name.name, tensor->text());
    }
    return *tensor;
  }
  fail("{}: the tensor {} [{}] is missing; the metadata asks for it", files_.front().path().string(), name.name,
       fmt::join(name.shape, ", "));
}

void GgufWeights::refuse_others(const std::vector<GgufName>& names) const {
  std::set<std::string_view> known;
  for (const GgufName& name : names) known.insert(name.name);
  for (const GgufFile& file : files_) {
    for (const GgufTensor& tensor : file.tensors()) {
      if (known.count(tensor.name) != 0) continue;
      fail("{}: {} ({}) is not a tensor of the model that the metadata describes; check its sizes",
           file.path().string(), tensor.name, tensor.text());
    }
  }
}

DType GgufWeights::stored(size_t parameter, int64_t element) const {
  return piece_with(pieces_[parameter], element).tensor->type->dtype;
}

std::vector<StoredTensor> GgufWeights::tensors() const {
  std::vector<StoredTensor> tensors;
  for (const GgufFile& file : files_) {
    for (const GgufTensor& tensor : file.tensors()) {
      tensors.push_back({tensor.name, tensor.type_name, tensor.shape, static_cast<int64_t>(tensor.bytes),
                         file.path().filename().string()});
    }
  }
  return tensors;
}

/// `row` counts from the piece's begin, in the parameter.
void GgufWeights::read_row(const Piece& piece, int64_t row, int64_t column, int64_t count, float* values) const {
  const StorageType& type = *piece.tensor->type;
  const int64_t width = piece.tensor->shape.back();
  const int64_t first = column / type.block * type.block, last = column + count;
  const int64_t in_file = piece.part.row + our_row_to_gguf(piece.part, row);
  const std::byte* const data = piece.tensor->data + bytes_of(type.dtype, in_file * width + first);
  if (first == column && last % type.block == 0) return type.to_floats(data, values, count);
  std::vector<float> blocks(static_cast<size_t>((last - first + type.block - 1) / type.block * type.block));
  type.to_floats(data, blocks.data(), static_cast<int64_t>(blocks.size()));
  std::copy_n(blocks.begin() + (column - first), count, values);
}

void GgufWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  for (int64_t at = begin; at < begin + count;) {
    const Piece& piece = piece_with(pieces_[parameter], at);
    const int64_t width = piece.tensor->shape.back();
    const int64_t row = (at - piece.begin) / width, column = (at - piece.begin) % width;
    const int64_t here = std::min(width - column, begin + count - at);
    read_row(piece, row, column, here, values + (at - begin));
    at += here;
  }
}

void GgufWeights::read(size_t, int64_t, int64_t, int32_t*) const { MOE_CHECK(!"these models have no tables"); }

void load_weights(const WeightSource& source, const fs::path& path, const std::vector<View>& views, Device& device) {
  const std::string where = path.string();
  constexpr int64_t kAtOnce = int64_t{1} << 18;
  std::vector<float> values;
  std::vector<char> bytes;
  for (size_t i = 0; i < views.size(); ++i) {
    const View& view = views[i];
    for (int64_t begin = 0, all = view.elements(); begin < all; begin += kAtOnce) {
      const int64_t count = std::min(kAtOnce, all - begin);
      bytes.resize(static_cast<size_t>(bytes_of(view.dtype, count)));
      if (is_float(view.dtype)) {
        values.resize(static_cast<size_t>(count));
        source.read(i, begin, count, values.data());
        const std::string& name = source.table()[i].name;
        refuse_not_finite(where, name, begin, DType::f32, values.data(), count);
        storage(view.dtype).from_floats(values.data(), bytes.data(), count);
        refuse_overflow(where, name, begin, values.data(), view.dtype, bytes.data(), count);
      } else {
        source.read(i, begin, count, reinterpret_cast<int32_t*>(bytes.data()));
      }
      device.upload(static_cast<char*>(view.data) + bytes_of(view.dtype, begin), bytes.data(), bytes.size());
    }
  }
}

}  // namespace moe
