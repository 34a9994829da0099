#include "checkpoint/expert_adapter.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/error.h"
#include "checkpoint/family_names.h"
#include "checkpoint/file_types.h"

namespace moe {
namespace {

constexpr const char* kAdapterFile = "adapter.safetensors";

bool is_listed(const ExpertList& list, const Parameter& parameter, int64_t offset) {
  if (parameter.kind == ParameterKind::shared_experts) return list.shared_experts;
  if (parameter.kind != ParameterKind::routed_experts) return list.non_expert_modules;
  const std::vector<int64_t>& ids = list.of_layer(parameter.layer);
  return std::binary_search(ids.begin(), ids.end(), offset / (parameter.shape.elements() / parameter.shape[0]));
}

std::vector<HfTensor> listed_tensors(const ModelConfig& config, const std::vector<Parameter>& table,
                                     const ExpertList& list) {
  std::vector<HfTensor> tensors = hf_tensors(config, table);
  std::erase_if(tensors,
                [&](const HfTensor& tensor) { return !is_listed(list, table[tensor.parameter], tensor.offset); });
  return tensors;
}

/// Finds the tensors of an adapter under any name that they may have.
class Finder {
 public:
  Finder(const TensorFiles& files, const ModelConfig& config, const std::vector<Parameter>& table) : files_(files) {
    for (HfTensor& tensor : tensors_of_all_families(config, table)) {
      names_[{tensor.parameter, tensor.offset}].push_back(std::move(tensor.name));
    }
  }

  TensorFiles::Place find(const HfTensor& wanted) const {
    for (const std::string& name : names_.at({wanted.parameter, wanted.offset})) {
      if (const TensorFiles::Place found = files_.find(name); found.tensor != nullptr) return found;
      // Some published programs save the inner module, whose names have no "model.".
      constexpr std::string_view kInner = "model.";
      if (!name.starts_with(kInner)) continue;
      if (const auto found = files_.find(name.substr(kInner.size())); found.tensor != nullptr) return found;
    }
    return {};
  }

 private:
  const TensorFiles& files_;
  std::map<std::pair<size_t, int64_t>, std::vector<std::string>> names_;  // by parameter and offset
};

std::vector<fs::path> safetensors_in(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") paths.push_back(entry->path());
  }
  if (error) fail("cannot read the folder {}: {}", folder.string(), error.message());
  if (paths.empty()) {
    fail("{} has no .safetensors file, expected an adapter, such as `moe convert RUN {} --experts-only` writes",
         folder.string(), folder.string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

std::vector<WrittenKind> write_expert_adapter(const fs::path& folder, const WeightSource& source,
                                              const ExpertList& list, const WriteOptions& options, ThreadPool& pool) {
  check_expert_list(list, source.config(), kExpertListFile);
  write_file(folder / kExpertListFile, expert_list_text(list));
  return write_tensors(folder / kAdapterFile, source, listed_tensors(source.config(), source.table(), list), options,
                       pool);
}

AdaptedWeights::AdaptedWeights(std::unique_ptr<WeightSource> base, const fs::path& adapter)
    : WeightSource(base->config()), base_(std::move(base)), files_(safetensors_in(adapter)), parts_(table().size()) {
  const ExpertList list = read_expert_list(adapter / kExpertListFile);
  check_expert_list(list, config(), (adapter / kExpertListFile).string());
  const Finder finder(files_, config(), table());
  size_t found = 0, all = 0;
  for (const HfTensor& wanted : listed_tensors(config(), table(), list)) {
    const auto [file, tensor] = finder.find(wanted);
    if (tensor == nullptr) {
      fail("{}: the tensor {} is missing; its {} names it", adapter.string(), wanted.name, kExpertListFile);
    }
    const StorageType* const type = safetensors_type(tensor->dtype);
    const bool integers = table()[wanted.parameter].is_table();
    if (tensor->shape != wanted.shape || type == nullptr || integers != (type->dtype == DType::i32)) {
      fail("{}: {} is {}, expected [{}] as in the model", file->path().string(), wanted.name, tensor->text(),
           fmt::join(wanted.shape, ", "));
    }
    parts_[wanted.parameter].push_back({.begin = wanted.offset,
                                        .end = wanted.offset + wanted.elements(),
                                        .file = file,
                                        .tensor = tensor,
                                        .type = type});
    ++found;
  }
  for (const SafetensorsFile& file : files_.files()) all += file.tensors().size();
  if (found != all) {
    fail("{} has {} tensors, expected the {} that its {} names of this model", adapter.string(), all, found,
         kExpertListFile);
  }
}

const AdaptedWeights::Part* AdaptedWeights::part_with(size_t parameter, int64_t element) const {
  const std::vector<Part>& parts = parts_[parameter];
  const auto behind = std::upper_bound(parts.begin(), parts.end(), element,
                                       [](int64_t at, const Part& part) { return at < part.begin; });
  if (behind == parts.begin() || std::prev(behind)->end <= element) return nullptr;
  return &*std::prev(behind);
}

int64_t AdaptedWeights::end_of(size_t parameter, int64_t element, int64_t end) const {
  if (const Part* const part = part_with(parameter, element)) return std::min(end, part->end);
  for (const Part& part : parts_[parameter]) {
    if (part.begin > element) return std::min(end, part.begin);
  }
  return end;
}

DType AdaptedWeights::stored(size_t parameter, int64_t element) const {
  const Part* const part = part_with(parameter, element);
  return part == nullptr ? base_->stored(parameter, element) : part->type->dtype;
}

StoredElement AdaptedWeights::place(size_t parameter, int64_t element) const {
  const Part* const part = part_with(parameter, element);
  if (part == nullptr) return base_->place(parameter, element);
  return {.file = part->file->path().string(), .tensor = part->tensor->name, .element = element - part->begin};
}

void AdaptedWeights::read(size_t parameter, int64_t begin, int64_t count, float* values) const {
  for (int64_t at = begin, end = begin + count; at < end;) {
    const int64_t until = end_of(parameter, at, end);
    const Part* const part = part_with(parameter, at);
    float* const to = values + (at - begin);
    if (part == nullptr) {
      base_->read(parameter, at, until - at, to);
    } else {
      part->type->to_floats(part->tensor->data + bytes_of(part->type->dtype, at - part->begin), to, until - at);
    }
    at = until;
  }
}

void AdaptedWeights::read(size_t parameter, int64_t begin, int64_t count, int32_t* values) const {
  const Part* const part = part_with(parameter, begin);
  if (part == nullptr) return base_->read(parameter, begin, count, values);
  std::memcpy(values, part->tensor->data + (begin - part->begin) * static_cast<int64_t>(sizeof(int32_t)),
              static_cast<size_t>(count) * sizeof(int32_t));
}

void AdaptedWeights::read_stored(size_t parameter, int64_t begin, int64_t count, void* bytes) const {
  const Part* const part = part_with(parameter, begin);
  if (part == nullptr) return base_->read_stored(parameter, begin, count, bytes);
  std::memcpy(bytes, part->tensor->data + bytes_of(part->type->dtype, begin - part->begin),
              static_cast<size_t>(bytes_of(part->type->dtype, count)));
}

}  // namespace moe
