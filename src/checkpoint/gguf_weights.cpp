#include "checkpoint/gguf_weights.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "checkpoint/conversion_run.h"
#include "checkpoint/file_types.h"
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

/// Sizes without axes of length 1: programs differ in whether they keep those, and the numbers and their order do not.
std::vector<int64_t> long_axes(std::vector<int64_t> shape) {
  std::erase(shape, 1);
  return shape;
}

}  // namespace

GgufWeights::GgufWeights(const fs::path& path) : GgufWeights(open_in_proportion(path)) {}

GgufWeights::GgufWeights(std::vector<GgufFile> files)
    : FileWeights(gguf_model_config(files)), files_(std::move(files)) {
  const std::vector<GgufName> names = gguf_names(config(), table());
  for (const GgufName& name : names) {
    const auto [file, tensor] = find(name);
    for (const GgufPart& part : name.parts) {
      add(part.parameter, {.begin = part.begin,
                           .end = part.begin + part.rows * name.width(),
                           .dtype = tensor->type->dtype,
                           .file = &file->path(),
                           .tensor = &tensor->name,
                           .data = tensor->data,
                           .width = name.width(),
                           .rows = part});
    }
  }
  sort_pieces();
  refuse_others(names);
}

GgufWeights::Place GgufWeights::find(const GgufName& name) const {
  for (const GgufFile& file : files_) {
    const GgufTensor* const tensor = file.find(name.name);
    if (tensor == nullptr) continue;
    if (long_axes(tensor->shape) != long_axes(name.shape)) {
      fail("{}: {} is {}, expected [{}] from the metadata", file.path().string(), name.name, tensor->text(),
           fmt::join(name.shape, ", "));
    }
    if (tensor->type == nullptr || !weight_types().has(tensor->type->dtype)) {
      fail("{}: {} is {}, a type that this program does not compute with; write the file in another type",
           file.path().string(), name.name, tensor->text());
    }
    return {&file, tensor};
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

void load_weights(const WeightSource& source, const fs::path& path, const std::vector<Parameter>& table,
                  const std::vector<View>& views, Device& device) {
  MOE_CHECK(table.size() == source.table().size() && views.size() == table.size());
  const std::string where = path.string();
  std::vector<float> values;
  std::vector<char> bytes, blocks;
  for (size_t i = 0; i < views.size(); ++i) {
    const View& view = views[i];
    if (!view) continue;
    const std::string& name = table[i].name;
    const StorageType& to = storage(view.dtype);
    const bool as_stored = !is_plain(view.dtype) && stored_type(source, i) == to.rearranges;
    const int64_t first = table[i].elements_before(), end = first + view.elements();  // of the source's parameter
    for (int64_t begin = first, count = 0; begin < end; begin += count) {
      count = conversion_run(table[i], view.dtype, begin, end - begin);
      bytes.resize(static_cast<size_t>(bytes_of(view.dtype, count)));
      if (as_stored) {
        source.read_stored(i, begin, count, bytes.data());
        refuse_not_finite(where, name, begin, to.rearranges, bytes.data(), count);
        if (is_rearranged(view.dtype)) {
          blocks = bytes;
          to.from_rearranged(blocks.data(), bytes.data(), count);
        }
      } else if (is_float(view.dtype)) {
        values.resize(static_cast<size_t>(count));
        source.read(i, begin, count, values.data());
        refuse_not_finite(where, name, begin, DType::f32, values.data(), count);
        to.from_floats(values.data(), bytes.data(), count);
        refuse_overflow(where, name, begin, values.data(), view.dtype, bytes.data(), count);
      } else {
        source.read(i, begin, count, reinterpret_cast<int32_t*>(bytes.data()));
      }
      device.upload(static_cast<char*>(view.data) + bytes_of(view.dtype, begin - first), bytes.data(), bytes.size());
    }
  }
}

}  // namespace moe
