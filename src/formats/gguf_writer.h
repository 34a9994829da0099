#pragma once
/// Writes GGUF files (formats/gguf.h), version 3.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "formats/gguf_value.h"
#include "tensor/dtype.h"

namespace moe {

/// Writes a file tensor by tensor, in the declared order, holding none of them; complete or absent. The same
/// declaration and bytes give the same file. For one thread at a time.
class GgufWriter {
 public:
  struct Declaration {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;  ///< outermost first
  };

  /// Types must have a number in the format (tensor/dtype.h), rows be whole blocks and names and keys differ.
  /// `general.alignment`, where `metadata` has it, is honoured.
  GgufWriter(const fs::path& path, const std::vector<GgufEntry>& metadata, std::vector<Declaration> tensors);

  /// Appends bytes to `name`, which must be the first declared tensor that is not complete yet.
  void write(std::string_view name, const void* data, size_t bytes);
  /// Every declared byte must have been written.
  void commit();

 private:
  void finish_complete();
  void pad();

  std::vector<Declaration> tensors_;
  std::vector<size_t> sizes_;
  size_t current_ = 0;
  size_t written_ = 0;
  uint64_t alignment_ = 32;
  FileWriter writer_;
};

}  // namespace moe
