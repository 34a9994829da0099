#pragma once
/// The safetensors format: a JSON header that names tensors, then their bytes, little-endian and without gaps.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "formats/checksum.h"
#include "tensor/view.h"

namespace moe {

/// The bytes of one element of a safetensors type ("F32", "BF16", "I64", ...); 0 for another name.
size_t safetensors_element_size(std::string_view dtype);

/// The storage type that safetensors files call `dtype`; null for one that this program has no row for.
const StorageType* safetensors_type(std::string_view dtype);

/// One tensor of an open file. `data` is valid while the file exists. It is aligned only if the writer of the file
/// aligned it.
struct SafetensorsTensor {
  std::string name;
  /// The type's name in the file: "F32", "BF16", "F16", "I64", ...
  std::string dtype;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;

  int64_t elements() const;
  /// "F32 [2, 3]"
  std::string text() const;
};

/// A file mapped into memory. The constructor checks everything: the length of the header and its JSON, names (no
/// duplicates), types, shapes, and that the tensors fill the rest of the file without overlap, gap or remainder. The
/// error is one sentence with the file and the tensor. Several threads may read an open file.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);

  const fs::path& path() const { return file_.path(); }
  /// In the order of their bytes.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  /// Null if the file has no tensor of this name.
  const SafetensorsTensor* find(std::string_view name) const;
  /// The header's `__metadata__`; empty if there is none.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void read_header(std::string_view text, std::span<const std::byte> data);

  MappedFile file_;
  std::vector<SafetensorsTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a file tensor by tensor, in the declared order, and keeps none of them. The file is complete or absent. The
/// same declarations and bytes give the same file. The data begins at a multiple of 64 bytes, and tensors follow each
/// other without gaps. So if types are mixed and later readers map the file, declare wider types first.
/// For one thread at a time.
class SafetensorsWriter {
 public:
  struct Declaration {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
  };

  SafetensorsWriter(const fs::path& path, std::vector<Declaration> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  /// Appends bytes to `name`, which must be the first declared tensor that is not complete.
  void write(std::string_view name, const void* data, size_t bytes);
  /// Every declared byte must have been written.
  void commit();
  /// The checksum of the file's bytes so far: what was given to write(), not what is on the disk.
  uint32_t crc32() const { return sum_.value(); }

 private:
  void skip_complete();
  void put(const void* data, size_t bytes);

  std::vector<Declaration> tensors_;
  std::vector<size_t> sizes_;
  size_t current_ = 0;
  size_t written_ = 0;
  FileWriter writer_;
  Crc32 sum_;
};

/// The tensor as a view of the mapped bytes (do not write to it). Refuses, with the tensor's name, types that views do
/// not have, more than four axes, and addresses that are not a multiple of the element size.
View view_of(const SafetensorsTensor& tensor);

}  // namespace moe
