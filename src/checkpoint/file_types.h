#pragma once
/// The storage types that weights may have in the files of models.

#include <string>

#include "ops/type_set.h"

namespace moe {

/// The types of weights that safetensors files have.
constexpr TypeSet folder_types() {
  TypeSet types{};
  for (const StorageType& type : kStorageTypes) {
    if (weight_types().has(type.dtype) && type.safetensors != nullptr) types.add(type.dtype);
  }
  return types;
}

/// The types of weights whose elements stand alone and that GGUF files have.
constexpr TypeSet plain_gguf_types() {
  TypeSet types{};
  for (const StorageType& type : kStorageTypes) {
    if (weight_types().has(type.dtype) && is_plain(type.dtype) && type.gguf >= 0) types.add(type.dtype);
  }
  return types;
}

/// "F32, BF16 or F16": folder_types() as the files call them.
std::string folder_types_text();

}  // namespace moe
