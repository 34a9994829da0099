#include "checkpoint/write_model.h"

#include <numeric>

#include "base/output_path.h"
#include "checkpoint/file_begins.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/hf_names.h"
#include "checkpoint/hub/hub_model.h"
#include "checkpoint/weight_files.h"
#include "formats/json.h"
#include "formats/safetensors.h"

namespace moe {
namespace {

struct Target {
  HfTensor tensor;
  DType dtype;
  int64_t bytes() const { return bytes_of(dtype, tensor.elements()); }
};

std::vector<Target> targets_of(const WeightSource& source, std::vector<HfTensor> tensors, const WriteOptions& options) {
  std::vector<Target> targets;
  for (HfTensor& tensor : tensors) {
    const Parameter& parameter = source.table()[tensor.parameter];
    const DType stored = source.stored(tensor.parameter, tensor.offset);
    // A router's bias and table keep their own types.
    const DType exact = storage(stored).safetensors != nullptr ? stored : DType::f32;
    const DType dtype = parameter.learned ? options.dtype.value_or(exact) : parameter.storage(DType::f32);
    targets.push_back({std::move(tensor), dtype});
  }
  return targets;
}

std::vector<int64_t> sizes_of(const std::vector<Target>& targets) {
  std::vector<int64_t> sizes;
  for (const Target& target : targets) sizes.push_back(target.bytes());
  return sizes;
}

/// Writes one file.
void write_file_of(const fs::path& path, const Target* begin, const Target* end, const WeightSource& source,
                   SliceWriter& slices) {
  std::vector<SafetensorsWriter::Declaration> declarations;
  for (const Target* target = begin; target != end; ++target) {
    declarations.push_back({target->tensor.name, storage(target->dtype).safetensors, target->tensor.shape});
  }
  SafetensorsWriter writer(path, std::move(declarations));
  for (const Target* target = begin; target != end; ++target) {
    const HfTensor& tensor = target->tensor;
    const auto append = [&](const char* data, size_t bytes) { writer.write(tensor.name, data, bytes); };
    const SliceTensor slice{.kind = source.table()[tensor.parameter].kind,
                            .dtype = target->dtype,
                            .elements = tensor.elements(),
                            .source = [&](int64_t at) { return source.place(tensor.parameter, tensor.offset + at); }};
    if (target->dtype == DType::i32) {
      slices.write_integers(slice, append, [&](int64_t at, int64_t count, int32_t* values) {
        source.read(tensor.parameter, tensor.offset + at, count, values);
      });
    } else {
      slices.write(slice, append, [&](int64_t at, int64_t count, float* values) {
        source.read(tensor.parameter, tensor.offset + at, count, values);
      });
    }
  }
  writer.commit();
}

}  // namespace

std::vector<WrittenKind> write_model(const fs::path& folder, const WeightSource& source, const WriteOptions& options,
                                     ThreadPool& pool) {
  const std::vector<Target> targets = targets_of(source, hf_tensors(source.config(), source.table()), options);
  const std::vector<int64_t> sizes = sizes_of(targets);
  const int64_t all = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  check_disk_space(folder, all);
  const DType dtype = options.dtype.value_or(targets.front().dtype);
  Json config = to_hf_config(source.config(), dtype);
  if (needs_modeling_file(source.config())) {
    config["auto_map"] = auto_map(config);
    write_file(folder / "modeling_moe.py", kModelingFile);
  }
  write_file(folder / "config.json", json_text(config, 2) + "\n");

  SliceWriter slices(pool, all, options.progress);
  const std::vector<size_t> begins = file_begins(sizes, options.most_file_bytes);
  const size_t files = begins.size() - 1;
  Json map = Json::object();
  for (size_t file = 0; file < files; ++file) {
    const std::string name = weight_file(file, files);
    write_file_of(folder / name, targets.data() + begins[file], targets.data() + begins[file + 1], source, slices);
    for (size_t i = begins[file]; i < begins[file + 1]; ++i) map[targets[i].tensor.name] = name;
  }
  if (files > 1) {
    write_weight_index(folder, map, all);
  }
  return slices.kinds();
}

std::vector<WrittenKind> write_tensors(const fs::path& file, const WeightSource& source, std::vector<HfTensor> tensors,
                                       const WriteOptions& options, ThreadPool& pool) {
  const std::vector<Target> targets = targets_of(source, std::move(tensors), options);
  const std::vector<int64_t> sizes = sizes_of(targets);
  const int64_t all = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  check_disk_space(file.parent_path(), all);
  SliceWriter slices(pool, all, options.progress);
  write_file_of(file, targets.data(), targets.data() + targets.size(), source, slices);
  return slices.kinds();
}

}  // namespace moe
