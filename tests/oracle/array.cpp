#include "tests/oracle/array.h"

#include <cmath>

namespace moe::oracle {
namespace {

/// Rounds a double to bf16 once: through f32, undoing the first rounding where it made a tie.
bf16 bf16_of(double value) {
  float nearest = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &nearest, sizeof(bits));
  const bool looks_like_tie = (bits & 0xffffu) == 0x8000u;
  if (looks_like_tie && static_cast<double>(nearest) != value && std::isfinite(nearest)) {
    nearest = std::nextafterf(nearest, static_cast<double>(nearest) < value ? INFINITY : -INFINITY);
  }
  return to_bf16(nearest);
}

/// Of a type that backends only read, as weights: its block by the table, whose conversions have tests of their own.
double load_stored(const void* data, const StorageType& type, int64_t offset) {
  std::vector<float> block(static_cast<size_t>(type.block));
  type.to_floats(static_cast<const char*>(data) + bytes_of(type.dtype, offset), block.data(), type.block);
  return static_cast<double>(block[static_cast<size_t>(offset % type.block)]);
}

/// Calls visit(offset in elements) for each element in row-major order.
template <class Visit>
void for_each_offset(const View& view, const Visit& visit, int axis = 0, int64_t offset = 0) {
  if (axis == view.rank()) return visit(offset);
  for (int64_t i = 0; i < view.size(axis); ++i) {
    for_each_offset(view, visit, axis + 1, offset + i * view.stride[static_cast<size_t>(axis)]);
  }
}

/// Elements of blocks, in whole rows.
template <class T>
void store_blocks(const View& view, const std::vector<T>& values) {
  const StorageType& type = storage(view.dtype);
  std::vector<float> block;
  size_t i = 0;
  for_each_offset(view, [&](int64_t offset) {
    block.push_back(static_cast<float>(values[i++]));
    if (static_cast<int64_t>(block.size()) < type.block) return;
    type.from_floats(block.data(), static_cast<char*>(view.data) + bytes_of(type.dtype, offset + 1 - type.block),
                     type.block);
    block.clear();
  });
  MOE_CHECK(block.empty());
}

void store_plain(void* data, const StorageType& type, int64_t offset, double value) {
  MOE_CHECK(type.block == 1);
  const auto single = static_cast<float>(value);
  type.from_floats(&single, static_cast<char*>(data) + bytes_of(type.dtype, offset), 1);
}

double load(const void* data, DType dtype, int64_t offset) {
  switch (dtype) {
    case DType::f64:
      return static_cast<const double*>(data)[offset];
    case DType::f32:
      return static_cast<double>(static_cast<const float*>(data)[offset]);
    case DType::bf16:
      return static_cast<double>(to_float(static_cast<const bf16*>(data)[offset]));
    case DType::i32:
      return static_cast<double>(static_cast<const int32_t*>(data)[offset]);
    case DType::u8:
      return static_cast<double>(static_cast<const uint8_t*>(data)[offset]);
    default:
      return load_stored(data, storage(dtype), offset);
  }
}

void store(void* data, DType dtype, int64_t offset, double value) {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(data)[offset] = value;
      break;
    case DType::f32:
      static_cast<float*>(data)[offset] = static_cast<float>(value);
      break;
    case DType::bf16:
      static_cast<bf16*>(data)[offset] = bf16_of(value);
      break;
    case DType::i32:
      static_cast<int32_t*>(data)[offset] = static_cast<int32_t>(value);
      break;
    case DType::u8:
      static_cast<uint8_t*>(data)[offset] = static_cast<uint8_t>(value);
      break;
    default:
      store_plain(data, storage(dtype), offset, value);
  }
}

/// Elements of blocks, each block converted once.
template <class T>
void load_blocks(const View& view, std::vector<T>& values) {
  const StorageType& type = storage(view.dtype);
  std::vector<float> block(static_cast<size_t>(type.block));
  size_t i = 0;
  for_each_offset(view, [&](int64_t offset) {
    const int64_t in_block = offset % type.block;
    if (in_block == 0) {
      type.to_floats(static_cast<const char*>(view.data) + bytes_of(type.dtype, offset), block.data(), type.block);
    }
    values[i++] = static_cast<T>(block[static_cast<size_t>(in_block)]);
  });
}

template <class T>
Array<T> read_as(const View& view) {
  if (!view) return {};
  Array<T> result(view.shape);
  if (!is_plain(view.dtype)) {
    load_blocks(view, result.values());
    return result;
  }
  size_t i = 0;
  for_each_offset(view,
                  [&](int64_t offset) { result.values()[i++] = static_cast<T>(load(view.data, view.dtype, offset)); });
  return result;
}

template <class T>
void write_as(const View& view, const Array<T>& array) {
  MOE_CHECK(view && view.elements() == static_cast<int64_t>(array.values().size()));
  if (!is_plain(view.dtype)) return store_blocks(view, array.values());
  size_t i = 0;
  for_each_offset(
      view, [&](int64_t offset) { store(view.data, view.dtype, offset, static_cast<double>(array.values()[i++])); });
}

}  // namespace

Reals read(const View& view) { return read_as<double>(view); }

Indices read_indices(const View& view) {
  MOE_CHECK(!view || view.dtype == DType::i32);
  return read_as<int64_t>(view);
}

void write(const View& view, const Reals& array) { write_as(view, array); }
void write(const View& view, const Indices& array) { write_as(view, array); }

double round_to(DType dtype, double value) {
  alignas(double) unsigned char element[sizeof(double)];
  store(element, dtype, 0, value);
  return load(element, dtype, 0);
}

}  // namespace moe::oracle
