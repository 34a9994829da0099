#pragma once
/// The GGUF container, version 3 (and 2, which is the same): typed metadata, tensors with names, shapes and types, then
/// their bytes, little-endian and aligned.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "formats/gguf_value.h"
#include "tensor/dtype.h"

namespace moe {

/// One tensor of an open file. `data` lives as long as the file.
struct GgufTensor {
  std::string name;
  const StorageType* type = nullptr;  ///< null: a type of the format that this program does not work with
  std::string type_name;              ///< "Q4_K"
  std::vector<int64_t> shape;         ///< outermost first; the file has the innermost first
  const std::byte* data = nullptr;
  size_t bytes = 0;

  int64_t elements() const;
  /// "Q4_K [2, 256]"
  std::string text() const;
};

/// A file mapped into memory. The constructor checks everything: the header, keys and names (UTF-8, none twice), value
/// types, shapes, that rows are whole blocks, and that the tensors fill the rest of the file in their alignment without
/// overlap, gap or remainder. The error is one sentence that names the file and the key or tensor.
/// Several threads may read it.
class GgufFile {
 public:
  explicit GgufFile(const fs::path& path);

  const fs::path& path() const { return file_.path(); }
  uint32_t version() const { return version_; }
  int64_t alignment() const { return alignment_; }
  /// In the order of the file.
  const std::vector<GgufEntry>& metadata() const { return metadata_; }
  /// Null when the file has no such key.
  const GgufValue* value(std::string_view key) const;
  /// The value as what is asked for, whatever its width; a missing one or one of another kind is an error that names
  /// the key, the file and what was found.
  int64_t integer(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  /// Null when the file has no such key.
  const std::vector<GgufValue>* array(std::string_view key, GgufKind kind) const;

  /// In the order of the file.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// Null when the file has no tensor of this name.
  const GgufTensor* find(std::string_view name) const;

 private:
  MappedFile file_;
  uint32_t version_ = 0;
  int64_t alignment_ = 32;
  std::vector<GgufEntry> metadata_;
  std::unordered_map<std::string, size_t> keys_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string, size_t> names_;
};

/// Whether a path names a GGUF file: it ends in .gguf and is not a folder. The file need not exist.
bool is_gguf(const fs::path& path);

/// The file at `path`, and where it is the first of several ("NAME-00001-of-00003.gguf", `split.count`), the others of
/// its folder. Any of them missing, out of order, or with a tensor that another one has, is an error.
std::vector<GgufFile> open_gguf(const fs::path& path);

}  // namespace moe
