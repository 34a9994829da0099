#pragma once
/// The safetensors container: a JSON header that names tensors, then their bytes, little-endian and without gaps.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "tensor/view.h"

namespace moe {

/// The size in bytes of one element of a safetensors type ("F32", "BF16", "I64", ...); 0 for a name that is not one.
size_t safetensors_element_size(std::string_view dtype);

/// The safetensors name of a type: "F64", "F32", "BF16", "I32", "U8".
const char* safetensors_name(DType dtype);

/// One tensor of an open file. `data` lives as long as the file and is aligned only if its writer took care of that.
struct SafetensorsTensor {
  std::string name;
  /// As the file spells it: "F32", "BF16", "F16", "I64", ...
  std::string dtype;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;

  int64_t elements() const;
  /// "F32 [2, 3]"
  std::string text() const;
};

/// A file mapped into memory. The constructor checks everything: the header's length and JSON, names (none twice),
/// types, shapes, and that the tensors fill the rest of the file without overlap, gap or remainder; the error is one
/// sentence that names the file and the tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);

  const fs::path& path() const { return file_.path(); }
  /// In the order of their bytes.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  /// Null when the file has no tensor of this name.
  const SafetensorsTensor* find(std::string_view name) const;
  /// The header's `__metadata__`; empty when it has none.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void read_header(std::string_view text, std::span<const std::byte> data);

  MappedFile file_;
  std::vector<SafetensorsTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a file tensor by tensor, in the declared order, holding none of them; complete or absent. The same
/// declaration and bytes give the same file. The first byte of data lies at a multiple of 64; tensors follow each other
/// without gaps, so declare wider types first where types are mixed and later readers map the file.
class SafetensorsWriter {
 public:
  struct Declaration {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
  };

  SafetensorsWriter(const fs::path& path, std::vector<Declaration> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  /// Appends bytes to `name`, which must be the first declared tensor that is not complete yet.
  void write(std::string_view name, const void* data, size_t bytes);
  /// Every declared byte must have been written.
  void commit();

 private:
  void skip_complete();

  std::vector<Declaration> tensors_;
  std::vector<size_t> sizes_;
  size_t current_ = 0;
  size_t written_ = 0;
  FileWriter writer_;
};

/// The tensor as a view of the mapped bytes (read-only in spirit). Refuses, by the tensor's name, types that views do
/// not have, more than four axes and addresses that are not a multiple of the element size.
View view_of(const SafetensorsTensor& tensor);

}  // namespace moe
