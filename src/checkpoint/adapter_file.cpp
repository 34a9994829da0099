#include "checkpoint/adapter_file.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "checkpoint/checksums.h"
#include "checkpoint/family.h"
#include "checkpoint/family_names.h"
#include "checkpoint/file_types.h"
#include "checkpoint/finite_weights.h"
#include "model/lora.h"

namespace moe {
namespace {

constexpr std::string_view kPrefix = "base_model.model.", kWeight = ".weight";

const StorageType& type_of(const SafetensorsTensor& tensor) { return *safetensors_type(tensor.dtype); }

void read_row(const SafetensorsTensor& tensor, int64_t first, int64_t count, float* values) {
  const StorageType& type = type_of(tensor);
  type.to_floats(tensor.data + bytes_of(type.dtype, first), values, count);
}

int64_t rows_of(const Parameter& parameter) { return parameter.shape[parameter.shape.rank() - 2]; }
int64_t columns_of(const Parameter& parameter) { return parameter.shape[parameter.shape.rank() - 1]; }
int64_t experts_of(const Parameter& parameter) { return parameter.shape.rank() == 3 ? parameter.shape[0] : 1; }
int64_t slices_of(const Parameter& parameter) {
  return std::max<int64_t>(1, static_cast<int64_t>(parameter.slices.size()));
}

/// The slice that begins with this row of a matrix.
int64_t slice_at(const Parameter& parameter, int64_t row) {
  int64_t begin = 0, slice = 0;
  for (const ParameterSlice& one : parameter.slices) {
    if (begin == row) break;
    begin += one.rows;
    ++slice;
  }
  return slice;
}

}  // namespace

void AdapterSlice::read_a(int64_t k, float* values) const {
  const int64_t width = a->shape[1];
  read_row(*a, (a_row + k) * width, width, values);
}

void AdapterSlice::read_b(int64_t o, float* values) const {
  const int64_t first = (b_row + o) * b->shape[1] + b_column;
  if (b_step == 1) {
    read_row(*b, first, rank, values);
  } else {
    for (int64_t k = 0; k < rank; ++k) read_row(*b, first + k * b_step, 1, values + k);
  }
}

/// Finds the tensors of every parameter.
class AdapterFile::Reader {
 public:
  Reader(AdapterFile& to, const ModelConfig& base) : to_(to), base_(base), table_(parameter_table(base)) {}

  void read() {
    to_.slices_.resize(table_.size());
    for (const HfTensor& tensor : tensors_of_all_families(base_, table_)) {
      const Parameter& parameter = table_[tensor.parameter];
      if (!lora_target(parameter).empty()) read_module(tensor, parameter);
    }
    for (size_t i = 0; i < table_.size(); ++i) {
      if (table_[i].shape.rank() == 3) read_fused(i);
    }
    for (const SafetensorsTensor& tensor : to_.file_.tensors()) {
      if (used_.count(tensor.name) != 0) continue;
      fail("{}: {} ({}) changes no linear map of this model; use the model that the adapter was trained on{}", file(),
           tensor.name, tensor.text(), to_.config_.base().empty() ? "" : ", " + to_.config_.base());
    }
    if (used_.empty()) fail("{} has no tensor, so the adapter changes nothing; write it again", file());
  }

 private:
  std::string file() const { return to_.file_.path().string(); }

  /// A and B of `name`, both or neither.
  std::pair<const SafetensorsTensor*, const SafetensorsTensor*> find(const std::string& name) {
    const std::string names[] = {std::string(kPrefix) + name + ".lora_A.weight",
                                 std::string(kPrefix) + name + ".lora_B.weight"};
    const SafetensorsTensor* const a = to_.file_.find(names[0]);
    const SafetensorsTensor* const b = to_.file_.find(names[1]);
    if (a == nullptr && b == nullptr) return {};
    if (a == nullptr || b == nullptr) {
      fail("{}: the tensor {} is missing beside {}; write the adapter again", file(), names[a == nullptr ? 0 : 1],
           names[a == nullptr ? 1 : 0]);
    }
    for (const SafetensorsTensor* tensor : {a, b}) {
      const StorageType* const type = safetensors_type(tensor->dtype);
      if (type == nullptr || !folder_types().has(type->dtype)) {
        fail("{}: {} is {}, expected {}", file(), tensor->name, tensor->text(), folder_types_text());
      }
      refuse_not_finite(file(), tensor->name, 0, type->dtype, tensor->data, tensor->elements());
      used_.insert(tensor->name);
    }
    return {a, b};
  }

  void require_shape(const SafetensorsTensor& tensor, int64_t rows, int64_t columns, const char* of_rank) const {
    if (tensor.shape == std::vector<int64_t>{rows, columns}) return;
    fail("{}: {} is {}, expected [{}, {}] by the model and {}; use the model that the adapter was trained on", file(),
         tensor.name, tensor.text(), rows, columns, of_rank);
  }

  void put(size_t parameter, int64_t expert, int64_t slice, const AdapterSlice& adapter) {
    const int64_t count = slices_of(table_[parameter]);
    std::vector<AdapterSlice>& slices = to_.slices_[parameter];
    slices.resize(static_cast<size_t>(experts_of(table_[parameter]) * count));
    AdapterSlice& place = slices[static_cast<size_t>(expert * count + slice)];
    if (place.rank > 0) {
      fail("{}: {} and {} change the same linear map, expected one of them; write the adapter again", file(),
           place.a->name, adapter.a->name);
    }
    place = adapter;
  }

  void read_module(const HfTensor& tensor, const Parameter& parameter) {
    const std::string module = tensor.name.substr(0, tensor.name.size() - kWeight.size());
    const auto [a, b] = find(module);
    if (a == nullptr) return;
    const int64_t rank = a->shape.empty() ? 0 : a->shape[0], row = tensor.offset / columns_of(parameter);
    if (rank < 1) fail("{}: {} is {}, expected rows: its rank", file(), a->name, a->text());
    require_shape(*a, rank, tensor.shape[1], "its rank");
    require_shape(*b, tensor.shape[0], rank, "the rank of lora_A");
    const int64_t expert = row / rows_of(parameter), slice = slice_at(parameter, row % rows_of(parameter));
    put(tensor.parameter, expert, slice,
        {.a = a, .b = b, .rank = rank, .scale = static_cast<float>(to_.config_.scale(module, rank))});
  }

  /// All experts of a layer as one parameter: lora_A [E r, I], expert by expert, and lora_B [O, r E], rank by rank. If
  /// both parameters of a layer are adapted, gate and up are the inner one.
  void read_fused(size_t index) {
    const Parameter& parameter = table_[index];
    const bool gate_up = parameter.role == ParameterRole::experts_gate_up;
    const std::string name =
        fmt::format("model.layers.{}.{}", parameter.layer,
                    gate_up ? family_of(base_).names.fused_gate_up : family_of(base_).names.fused_down);
    const size_t dot = name.rfind('.');
    const std::string leaf = name.substr(dot + 1);
    if (!to_.config_.targets_parameter(leaf)) return;
    const bool inner = gate_up && to_.config_.targets_parameter("down_proj");
    const auto [a, b] = find(name.substr(0, dot) + (inner ? ".base_layer" : ""));
    if (a == nullptr) return;
    const int64_t experts = experts_of(parameter), rows = rows_of(parameter);
    const int64_t rank = a->shape.empty() ? 0 : a->shape[0] / experts;
    if (rank < 1)
      fail("{}: {} is {}, expected a row for each of {} experts or more", file(), a->name, a->text(), experts);
    require_shape(*a, experts * rank, columns_of(parameter), "its rank times the experts");
    require_shape(*b, rows, experts * rank, "the rows of lora_A");
    const AdapterSlice whole{
        .a = a, .b = b, .rank = rank, .scale = static_cast<float>(to_.config_.scale(name, rank)), .b_step = experts};
    const int64_t count = slices_of(parameter), part = rank / count;
    const bool apart = count > 1 && rank % count == 0 && is_block_diagonal(*b, parameter, rank);
    for (int64_t expert = 0; expert < experts; ++expert) {
      int64_t row = 0;
      for (int64_t slice = 0; slice < count; ++slice) {
        const int64_t first = apart ? slice * part : 0;  // of the ranks
        AdapterSlice one = whole;
        one.rank = apart ? part : rank;
        one.a_row = expert * rank + first;
        one.b_row = row;
        one.b_column = first * experts + expert;
        put(index, expert, slice, one);
        if (count > 1) row += parameter.slices[static_cast<size_t>(slice)].rows;
      }
    }
  }

  /// Whether each slice has ranks of its own, as our own files have.
  bool is_block_diagonal(const SafetensorsTensor& b, const Parameter& parameter, int64_t rank) const {
    const int64_t width = b.shape[1], block = width / slices_of(parameter);
    MOE_CHECK(rank > 0);
    std::vector<float> values(static_cast<size_t>(width));
    int64_t row = 0;
    for (size_t slice = 0; slice < parameter.slices.size(); ++slice) {
      const int64_t end = row + parameter.slices[slice].rows, first = static_cast<int64_t>(slice) * block;
      for (; row < end; ++row) {
        read_row(b, row * width, width, values.data());
        for (int64_t column = 0; column < width; ++column) {
          const bool own = column >= first && column < first + block;
          if (!own && values[static_cast<size_t>(column)] != 0) return false;
        }
      }
    }
    return true;
  }

  AdapterFile& to_;
  const ModelConfig& base_;
  std::vector<Parameter> table_;
  std::set<std::string> used_;
};

AdapterFile::AdapterFile(const fs::path& folder, const ModelConfig& base)
    : config_(folder), file_(folder / kAdapterWeights) {
  MOE_CHECK(base.adapters.empty());
  check_checksums(folder, {file_.path()});
  Reader(*this, base).read();
}

}  // namespace moe
