#include "checkpoint/weights.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "checkpoint/checkpoint_folder.h"
#include "checkpoint/conversion_run.h"
#include "checkpoint/file_begins.h"
#include "checkpoint/file_types.h"
#include "checkpoint/finite_weights.h"
#include "checkpoint/proportion.h"
#include "checkpoint/weight_files.h"

namespace moe {
namespace {

const char* const kOptimizerPrefix = "optimizer-";

// One tensor to read or write: a part of a set's view.
struct Part {
  std::string name;
  std::vector<int64_t> shape;
  View view;  // contiguous, flat
  const Parameter* parameter;
  int64_t offset;  // of its first element among the parameter's

  int64_t bytes() const { return static_cast<int64_t>(view.bytes()); }
};

/// The place of the parameter's element `offset` among the experts that train; -1 if its expert does not.
int64_t place_among_trained(const Parameter& parameter, int64_t offset) {
  const int64_t each = parameter.shape.elements() / parameter.shape[0];
  for (const ExpertRun& run : parameter.trained_runs()) {
    const int64_t expert = offset / each - run.first;
    if (expert >= 0 && expert < run.count) return (run.at + expert) * each + offset % each;
  }
  return -1;
}

std::vector<Part> parts_of(const ModelConfig& config, const std::vector<Parameter>& table,
                           const std::vector<ParameterSet>& sets,
                           const std::function<bool(const std::string&)>& has = {}) {
  std::vector<Part> parts;
  for (const HfTensor& tensor : hf_tensors(config, table, has)) {
    for (const ParameterSet& set : sets) {
      const Parameter& parameter = table[tensor.parameter];
      View view = set.views[tensor.parameter];
      if (!view) continue;  // optimiser state of a parameter that is not trained
      int64_t offset = tensor.offset;
      if (view.elements() != parameter.shape.elements()) {
        offset = place_among_trained(parameter, tensor.offset);
        if (offset < 0 && set.rest == nullptr) continue;
        if (offset < 0) view = (*set.rest)[tensor.parameter], offset = tensor.offset;
      }
      parts.push_back({tensor.name + set.suffix, tensor.shape,
                       view.reshaped({view.elements()}).rows(offset, tensor.elements()), &parameter, tensor.offset});
    }
  }
  return parts;
}

WrittenFile save_parts(const fs::path& path, const Part* begin, const Part* end, Device& device) {
  std::vector<SafetensorsWriter::Declaration> declarations;
  for (const Part* part = begin; part != end; ++part) {
    const char* const type = storage(part->view.dtype).safetensors;
    MOE_CHECK(type != nullptr);
    declarations.push_back({part->name, type, part->shape});
  }
  SafetensorsWriter writer(path, std::move(declarations));
  size_t largest = 0;  // a buffer that grows would exist twice for a while
  for (const Part* part = begin; part != end; ++part) largest = std::max(largest, part->view.bytes());
  std::vector<char> host;
  host.reserve(largest);
  for (const Part* part = begin; part != end; ++part) {
    host.resize(part->view.bytes());
    device.download(host.data(), part->view.data, host.size());
    writer.write(part->name, host.data(), host.size());
  }
  writer.commit();
  return {path.filename().string(), writer.crc32()};
}

/// Through f32, some numbers at a time.
void upload_converted(const std::string& file, const SafetensorsTensor& tensor, const StorageType& from,
                      const Part& part, Device& device) {
  const StorageType& to = storage(part.view.dtype);
  std::vector<float> floats;
  std::vector<char> host;
  for (int64_t begin = 0, count = 0, elements = part.view.elements(); begin < elements; begin += count) {
    count = conversion_run(*part.parameter, to.dtype, part.offset + begin, elements - begin);
    floats.resize(static_cast<size_t>(count));
    host.resize(static_cast<size_t>(bytes_of(to.dtype, count)));
    from.to_floats(tensor.data + bytes_of(from.dtype, begin), floats.data(), count);
    to.from_floats(floats.data(), host.data(), count);
    refuse_overflow(file, tensor.name, begin, floats.data(), to.dtype, host.data(), count);
    device.upload(static_cast<char*>(part.view.data) + bytes_of(to.dtype, begin), host.data(), host.size());
  }
}

// Routers use a table's values as experts without checking them again.
void check_hash_table(const SafetensorsFile& file, const SafetensorsTensor& tensor, int64_t experts) {
  for (size_t id = 0; id < tensor.bytes / sizeof(int32_t); ++id) {
    int32_t expert;
    std::memcpy(&expert, tensor.data + id * sizeof(expert), sizeof(expert));
    if (expert >= 0 && expert < experts) continue;
    fail(
        "{}: {} sends the token id {} to expert {}, expected experts from 0 to {} (n_routed_experts); write the "
        "file again",
        file.path().string(), tensor.name, id, expert, experts - 1);
  }
}

/// What a file must have under a name.
struct Expected {
  std::string name;
  std::vector<int64_t> shape;
  bool integers;
};

void check_tensor(const TensorFiles::Place& place, const Expected& expected, const ModelConfig& config) {
  const auto& [file, tensor] = place;
  const std::string path = file->path().string();
  if (tensor->shape != expected.shape) {
    fail("{}: {} is {}, expected {} from config.json", path, expected.name, tensor->text(),
         fmt::format("[{}]", fmt::join(expected.shape, ", ")));
  }
  if (expected.integers) {
    if (tensor->dtype != "I32") {
      fail("{}: {} is {}, expected I32, an expert for each token id", path, expected.name, tensor->text());
    }
    return check_hash_table(*file, *tensor, config.n_routed_experts);
  }
  const StorageType* const type = safetensors_type(tensor->dtype);
  if (type == nullptr || !folder_types().has(type->dtype)) {
    fail("{}: {} is {}, expected {}; convert the file first", path, expected.name, tensor->text(), folder_types_text());
  }
}

/// Whether a tensor that is not expected may stay unread.
using MayStay = std::function<bool(const std::string& name)>;

void refuse_extra(const TensorFiles& files, const std::set<std::string>& expected, const ModelConfig& config,
                  const MayStay& may_stay) {
  for (const SafetensorsFile& file : files.files()) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      if (expected.count(tensor.name) != 0 || is_passed_over(files, tensor, config)) continue;
      if (may_stay && may_stay(tensor.name)) continue;
      fail("{}: {} ({}) is not a tensor of the model that config.json describes; check its sizes and switches",
           file.path().string(), tensor.name, tensor.text());
    }
  }
}

/// Every expected tensor exists and is right, and there is no other tensor.
void check_tensors(const TensorFiles& files, const std::vector<Expected>& tensors, const ModelConfig& config,
                   const MayStay& may_stay = {}) {
  std::set<std::string> names;
  for (const Expected& expected : tensors) {
    names.insert(expected.name);
    const TensorFiles::Place place = files.find(expected.name);
    if (place.file == nullptr) {
      fail("{}: the tensor {} [{}] is missing; config.json asks for it", files.files().front().path().string(),
           expected.name, fmt::join(expected.shape, ", "));
    }
    check_tensor(place, expected, config);
  }
  refuse_extra(files, names, config, may_stay);
}

// Reads `parts` from `files` together; each file may hold some of them. Numbers must be finite in `finite` files.
void load_parts(const TensorFiles& files, const std::vector<Part>& parts, const ModelConfig& config, Device& device,
                bool finite, const MayStay& may_stay = {}) {
  std::vector<Expected> expected;
  for (const Part& part : parts) expected.push_back({part.name, part.shape, part.view.dtype == DType::i32});
  check_tensors(files, expected, config, may_stay);
  for (const Part& part : parts) {
    const auto& [file, found] = files.find(part.name);
    const SafetensorsTensor& tensor = *found;
    const StorageType& type = *safetensors_type(tensor.dtype);
    if (finite) refuse_not_finite(file->path().string(), tensor.name, 0, type.dtype, tensor.data, tensor.elements());
    if (type.dtype == part.view.dtype) {
      device.upload(part.view.data, tensor.data, tensor.bytes);
    } else {
      upload_converted(file->path().string(), tensor, type, part, device);
    }
  }
}

}  // namespace

void check_weights(const TensorFiles& files, const ModelConfig& config, const std::vector<Parameter>& table) {
  std::vector<fs::path> paths;
  for (const SafetensorsFile& file : files.files()) paths.push_back(file.path());
  require_in_proportion(table, paths);
  std::vector<Expected> expected;
  for (HfTensor& tensor : hf_tensors(config, table, [&](const std::string& name) { return files.has(name); })) {
    expected.push_back({std::move(tensor.name), std::move(tensor.shape), table[tensor.parameter].is_table()});
  }
  check_tensors(files, expected, config);
}

void load_weights(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                  const std::vector<View>& views, Device& device) {
  const TensorFiles files = open_weight_files(folder, config);
  check_checksums(folder, weight_files(folder));
  const auto has = [&](const std::string& name) { return files.has(name); };
  load_parts(files, parts_of(config, table, {{"", views}}, has), config, device, true);
}

int64_t saving_bytes(const ModelConfig& config, const std::vector<Parameter>& table) {
  int64_t largest = 0;
  for (const HfTensor& tensor : hf_tensors(config, table)) largest = std::max(largest, tensor.elements());
  return largest * static_cast<int64_t>(sizeof(float));
}

WrittenFile save_weights(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                         const std::vector<View>& views, Device& device, const FileNumbers& numbers) {
  const std::vector<Part> parts = parts_of(config, table, {{"", views}});
  const fs::path path = folder / weight_file(numbers.before, numbers.all);
  return save_parts(path, parts.data(), parts.data() + parts.size(), device);
}

void save_weight_index(const fs::path& folder) {
  int64_t bytes = 0;
  Json map = Json::object();
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with("model-") || !name.ends_with(".safetensors")) continue;
    const SafetensorsFile file(entry->path());
    for (const SafetensorsTensor& tensor : file.tensors()) {
      map[tensor.name] = name;
      bytes += static_cast<int64_t>(tensor.bytes);
    }
  }
  if (error) fail("cannot read the folder {}: {}", folder.string(), error.message());
  write_weight_index(folder, map, bytes);
}

std::vector<WrittenFile> save_optimizer(const fs::path& folder, const ModelConfig& config,
                                        const std::vector<Parameter>& table, const std::vector<ParameterSet>& sets,
                                        Device& device, int64_t most_bytes,
                                        const std::function<FileNumbers(size_t)>& numbered) {
  const std::vector<Part> parts = parts_of(config, table, sets);
  std::vector<int64_t> sizes;
  for (const Part& part : parts) sizes.push_back(part.bytes());
  const std::vector<size_t> begins = file_begins(sizes, most_bytes);
  const size_t shards = parts.empty() ? 0 : begins.size() - 1;
  const FileNumbers numbers = numbered ? numbered(shards) : FileNumbers{0, shards};
  std::vector<WrittenFile> written;
  for (size_t shard = 0; shard < shards; ++shard) {
    const std::string name =
        fmt::format("{}{:05}-of-{:05}.safetensors", kOptimizerPrefix, numbers.before + shard + 1, numbers.all);
    written.push_back(
        save_parts(folder / name, parts.data() + begins[shard], parts.data() + begins[shard + 1], device));
  }
  return written;
}

void load_optimizer(const fs::path& folder, const ModelConfig& config, const std::vector<Parameter>& table,
                    const std::vector<ParameterSet>& sets, Device& device, const std::vector<bool>& held) {
  std::set<std::string> frozen;  // or of another rank
  for (const HfTensor& tensor : hf_tensors(config, parameter_table(config))) frozen.insert(tensor.name);
  for (const HfTensor& tensor : hf_tensors(config, table)) {
    const Parameter& parameter = table[tensor.parameter];
    const bool elsewhere = !held.empty() && !held[tensor.parameter];
    const bool here = !elsewhere && !parameter.frozen && place_among_trained(parameter, tensor.offset) >= 0;
    if (here) frozen.erase(tensor.name);
  }
  // The state of a tensor that was trained and is now frozen stays unread.
  const MayStay may_stay = [&](const std::string& name) { return frozen.count(name.substr(0, name.rfind('.'))) != 0; };
  // A run whose state is not finite names it by itself (Trainer).
  load_parts(TensorFiles(optimizer_files(folder)), parts_of(config, table, sets), config, device, false, may_stay);
}

}  // namespace moe
