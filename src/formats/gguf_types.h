#pragma once
/// What readers and writers of GGUF files share: numbers of tensor types, alignment.

#include <cstdint>
#include <string>

#include "tensor/dtype.h"

namespace moe {

inline constexpr const char* kGgufAlignmentKey = "general.alignment";

/// A tensor type of the format.
struct GgufTensorType {
  const StorageType* storage;  ///< null: one that this program only knows the size of
  std::string name;            ///< as the format's own programs write it
  int64_t block, bytes;
};

/// The type of this number; an error that names `what` where there is none.
GgufTensorType gguf_type(uint32_t number, const std::string& what);

/// A power of two from 8 to 1 MiB; another is an error that names the file.
void check_gguf_alignment(int64_t alignment, const std::string& path);

}  // namespace moe
