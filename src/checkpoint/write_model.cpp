#include "checkpoint/write_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "checkpoint/file_begins.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/hf_names.h"
#include "formats/json.h"

namespace moe {
namespace {

constexpr int64_t kSlice = int64_t{1} << 18;  ///< elements that a thread converts at a time

struct Target {
  HfTensor tensor;
  DType dtype;
  int64_t bytes() const { return bytes_of(dtype, tensor.elements()); }
};

std::vector<Target> targets_of(const WeightSource& source, const WriteOptions& options) {
  std::vector<Target> targets;
  for (HfTensor& tensor : hf_tensors(source.config(), source.table())) {
    const Parameter& parameter = source.table()[tensor.parameter];
    const DType stored = source.stored(tensor.parameter, tensor.offset);
    // A router's bias and table keep their own types.
    const DType exact = storage(stored).safetensors != nullptr ? stored : DType::f32;
    const DType dtype = parameter.learned ? options.dtype.value_or(exact) : parameter.storage(DType::f32);
    targets.push_back({std::move(tensor), dtype});
  }
  return targets;
}

/// One slice on its way: read, converted, and compared with what was read.
struct Slice {
  std::vector<float> values, again;
  std::vector<char> bytes;
  double squared_error = 0, squared_values = 0;
};

void convert(const WeightSource& source, const Target& target, int64_t begin, int64_t count, Slice& slice) {
  const size_t parameter = target.tensor.parameter;
  const int64_t first = target.tensor.offset + begin;
  slice.bytes.resize(static_cast<size_t>(bytes_of(target.dtype, count)));
  slice.squared_error = slice.squared_values = 0;
  if (target.dtype == DType::i32) {
    source.read(parameter, first, count, reinterpret_cast<int32_t*>(slice.bytes.data()));
    return;
  }
  slice.values.resize(static_cast<size_t>(count));
  slice.again.resize(static_cast<size_t>(count));
  source.read(parameter, first, count, slice.values.data());
  const StorageType& type = storage(target.dtype);
  type.from_floats(slice.values.data(), slice.bytes.data(), count);
  type.to_floats(slice.bytes.data(), slice.again.data(), count);
  for (size_t i = 0; i < slice.values.size(); ++i) {
    const double value = static_cast<double>(slice.values[i]), error = static_cast<double>(slice.again[i]) - value;
    slice.squared_error += error * error;
    slice.squared_values += value * value;
  }
}

WrittenKind& of_kind(std::vector<WrittenKind>& kinds, ParameterKind kind, DType dtype) {
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto& one) { return one.kind == kind; });
  if (found != kinds.end()) return *found;
  kinds.push_back({.kind = kind, .dtype = dtype});
  return kinds.back();
}

class Writer {
 public:
  Writer(const WeightSource& source, const WriteOptions& options, ThreadPool& pool, int64_t all_bytes)
      : source_(source), options_(options), pool_(pool), slices_(static_cast<size_t>(pool.size())), all_(all_bytes) {}

  void write_file(const fs::path& path, const Target* begin, const Target* end) {
    std::vector<SafetensorsWriter::Declaration> declarations;
    for (const Target* target = begin; target != end; ++target) {
      declarations.push_back({target->tensor.name, storage(target->dtype).safetensors, target->tensor.shape});
    }
    SafetensorsWriter writer(path, std::move(declarations));
    for (const Target* target = begin; target != end; ++target) write_tensor(writer, *target);
    writer.commit();
  }

  std::vector<WrittenKind> kinds() {
    std::sort(kinds_.begin(), kinds_.end(), [](const auto& a, const auto& b) { return a.kind < b.kind; });
    return kinds_;
  }

 private:
  void write_tensor(SafetensorsWriter& writer, const Target& target) {
    WrittenKind& kind = of_kind(kinds_, source_.table()[target.tensor.parameter].kind, target.dtype);
    const int64_t elements = target.tensor.elements();
    ++kind.tensors;
    kind.dtype = target.dtype;
    kind.elements += elements;
    kind.bytes += target.bytes();
    const auto in_turn = static_cast<int64_t>(slices_.size());
    for (int64_t begin = 0; begin < elements; begin += in_turn * kSlice) {
      const int64_t count = std::min(in_turn, (elements - begin + kSlice - 1) / kSlice);
      pool_.parallel_for(count, [&](int64_t i, int) {
        const int64_t first = begin + i * kSlice;
        convert(source_, target, first, std::min(kSlice, elements - first), slices_[static_cast<size_t>(i)]);
      });
      for (int64_t i = 0; i < count; ++i) {
        const Slice& slice = slices_[static_cast<size_t>(i)];
        writer.write(target.tensor.name, slice.bytes.data(), slice.bytes.size());
        kind.squared_error += slice.squared_error;
        kind.squared_values += slice.squared_values;
        done_ += static_cast<int64_t>(slice.bytes.size());
      }
      if (options_.progress) options_.progress(done_, all_);
    }
  }

  const WeightSource& source_;
  const WriteOptions& options_;
  ThreadPool& pool_;
  std::vector<Slice> slices_;
  std::vector<WrittenKind> kinds_;
  int64_t done_ = 0, all_;
};

}  // namespace

double WrittenKind::relative_error() const { return squared_error > 0 ? std::sqrt(squared_error / squared_values) : 0; }

std::vector<WrittenKind> write_model(const fs::path& folder, const WeightSource& source, const WriteOptions& options,
                                     ThreadPool& pool) {
  const std::vector<Target> targets = targets_of(source, options);
  std::vector<int64_t> sizes;
  for (const Target& target : targets) sizes.push_back(target.bytes());
  const int64_t all = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  const DType dtype = options.dtype.value_or(targets.front().dtype);
  write_file(folder / "config.json", json_text(to_hf_config(source.config(), dtype), 2) + "\n");

  Writer writer(source, options, pool, all);
  const std::vector<size_t> begins = file_begins(sizes, options.most_file_bytes);
  const size_t files = begins.size() - 1;
  Json map = Json::object();
  for (size_t file = 0; file < files; ++file) {
    const std::string name =
        files == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, files);
    writer.write_file(folder / name, targets.data() + begins[file], targets.data() + begins[file + 1]);
    for (size_t i = begins[file]; i < begins[file + 1]; ++i) map[targets[i].tensor.name] = name;
  }
  if (files > 1) {
    const Json index = {{"metadata", {{"total_size", all}}}, {"weight_map", map}};
    write_file(folder / "model.safetensors.index.json", json_text(index, 2) + "\n");
  }
  return writer.kinds();
}

std::vector<fs::path> companion_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
        "special_tokens_map.json", "chat_template.jinja", "chat_template.json", "generation_config.json"}) {
    std::error_code ignored;
    if (fs::is_regular_file(folder / name, ignored)) files.push_back(folder / name);
  }
  return files;
}

}  // namespace moe
