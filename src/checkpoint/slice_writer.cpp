#include "checkpoint/slice_writer.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "checkpoint/finite_weights.h"
#include "tensor/finite.h"

namespace moe {
namespace {

/// Calls `refuse` if an element of the slice is not finite: with the file and the tensor that it comes from, and the
/// number that the slice's first element would have there.
void check_slice(const SliceTensor& tensor, int64_t first, DType dtype, const void* data, int64_t count,
                 const std::function<void(const std::string& file, const std::string& name, int64_t first)>& refuse) {
  const int64_t found = first_not_finite(dtype, data, count);
  if (found < 0) return;
  const StoredElement place = tensor.source(first + found);
  refuse(place.file, place.tensor, place.element - found);
}

constexpr int64_t kSlice = int64_t{1} << 18;  ///< elements that a thread converts at a time; whole blocks of any type

}  // namespace

double WrittenKind::relative_error() const { return squared_error > 0 ? std::sqrt(squared_error / squared_values) : 0; }

SliceWriter::SliceWriter(ThreadPool& pool, int64_t all, Progress progress)
    : pool_(pool), all_(all), progress_(std::move(progress)), slices_(static_cast<size_t>(pool.size())) {}

WrittenKind& SliceWriter::of_kind(const SliceTensor& tensor) {
  const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const WrittenKind& one) {
    return one.kind == tensor.kind && one.dtype == tensor.dtype;
  });
  if (found != kinds_.end()) return *found;
  kinds_.push_back({.kind = tensor.kind, .dtype = tensor.dtype});
  return kinds_.back();
}

std::vector<WrittenKind> SliceWriter::kinds() const {
  std::vector<WrittenKind> kinds = kinds_;
  std::sort(kinds.begin(), kinds.end(), [](const WrittenKind& a, const WrittenKind& b) {
    return std::tie(a.kind, a.dtype) < std::tie(b.kind, b.dtype);
  });
  return kinds;
}

void SliceWriter::write_slices(const SliceTensor& tensor, const Append& append,
                               const std::function<void(int64_t, int64_t, Slice&)>& convert) {
  WrittenKind& kind = of_kind(tensor);
  ++kind.tensors;
  kind.elements += tensor.elements;
  kind.bytes += bytes_of(tensor.dtype, tensor.elements);
  const auto in_turn = static_cast<int64_t>(slices_.size());
  for (int64_t begin = 0; begin < tensor.elements; begin += in_turn * kSlice) {
    const int64_t count = std::min(in_turn, (tensor.elements - begin + kSlice - 1) / kSlice);
    pool_.parallel_for(count, [&](int64_t i, int) {
      const int64_t first = begin + i * kSlice, elements = std::min(kSlice, tensor.elements - first);
      Slice& slice = slices_[static_cast<size_t>(i)];
      slice.bytes.resize(static_cast<size_t>(bytes_of(tensor.dtype, elements)));
      slice.squared_error = slice.squared_values = 0;
      convert(first, elements, slice);
    });
    for (int64_t i = 0; i < count; ++i) {
      const Slice& slice = slices_[static_cast<size_t>(i)];
      append(slice.bytes.data(), slice.bytes.size());
      kind.squared_error += slice.squared_error;
      kind.squared_values += slice.squared_values;
      done_ += static_cast<int64_t>(slice.bytes.size());
    }
    if (progress_) progress_(done_, all_);
  }
}

void SliceWriter::write(const SliceTensor& tensor, const Append& append,
                        const std::function<void(int64_t, int64_t, float*)>& read) {
  const StorageType& type = storage(tensor.dtype);
  write_slices(tensor, append, [&](int64_t first, int64_t count, Slice& slice) {
    slice.values.resize(static_cast<size_t>(count));
    slice.again.resize(static_cast<size_t>(count));
    read(first, count, slice.values.data());
    check_slice(tensor, first, DType::f32, slice.values.data(), count,
                [&](const auto& file, const auto& name, int64_t at) {
                  refuse_not_finite(file, name, at, DType::f32, slice.values.data(), count);
                });
    type.from_floats(slice.values.data(), slice.bytes.data(), count);
    check_slice(tensor, first, tensor.dtype, slice.bytes.data(), count,
                [&](const auto& file, const auto& name, int64_t at) {
                  refuse_overflow(file, name, at, slice.values.data(), tensor.dtype, slice.bytes.data(), count);
                });
    type.to_floats(slice.bytes.data(), slice.again.data(), count);
    for (size_t i = 0; i < slice.values.size(); ++i) {
      const double value = static_cast<double>(slice.values[i]), error = static_cast<double>(slice.again[i]) - value;
      slice.squared_error += error * error;
      slice.squared_values += value * value;
    }
  });
}

void SliceWriter::write_integers(const SliceTensor& tensor, const Append& append,
                                 const std::function<void(int64_t, int64_t, int32_t*)>& read) {
  write_slices(tensor, append, [&](int64_t first, int64_t count, Slice& slice) {
    read(first, count, reinterpret_cast<int32_t*>(slice.bytes.data()));
  });
}

}  // namespace moe
