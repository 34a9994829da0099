#pragma once
/// A set of storage types.

#include <initializer_list>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace moe {

/// Several threads may read it.
class TypeSet {
 public:
  constexpr TypeSet(std::initializer_list<DType> types) {
    for (const DType type : types) add(type);
  }
  constexpr void add(DType type) { bits_ |= uint32_t{1} << static_cast<unsigned>(type); }
  constexpr bool has(DType type) const { return bits_ >> static_cast<unsigned>(type) & 1u; }
  /// "f32, bf16"
  std::string text() const;
  /// The names, in the order of the table.
  std::vector<std::string> names() const;

 private:
  static_assert(std::size(kStorageTypes) <= 32);
  uint32_t bits_ = 0;
};

/// The types in which weights may be stored: float types whose numbers f32 can hold. (Not asked by their conversions:
/// the undefined-behaviour sanitizer has no constant comparison of a function with null.)
constexpr TypeSet weight_types() {
  TypeSet types{};
  for (const StorageType& type : kStorageTypes) {
    const bool is_float = type.activations == DType::f32 || type.activations == DType::bf16;
    if (is_float) types.add(type.dtype);
  }
  return types;
}

/// The block types of weights that users name.
constexpr TypeSet named_block_types() {
  TypeSet types{};
  for (const StorageType& type : kStorageTypes) {
    if (!is_plain(type.dtype) && !is_rearranged(type.dtype)) types.add(type.dtype);
  }
  return types;
}

/// The types of weights that users name.
constexpr TypeSet named_weight_types() {
  TypeSet types = named_block_types();
  for (const StorageType& type : kStorageTypes) {
    if (is_plain(type.dtype) && weight_types().has(type.dtype)) types.add(type.dtype);
  }
  return types;
}

}  // namespace moe
