#pragma once
/// Streams of bytes out of plain, gzip and Zstandard files, read piece by piece.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/file.h"

namespace moe {

/// A sequence of bytes that is read once, from its beginning. Errors name the file.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Puts between 1 and `size` bytes at `data` (size > 0) and returns how many; 0 means the end.
  virtual size_t read(char* data, size_t size) = 0;
  /// Bytes of the file on disk read so far, for progress.
  virtual uint64_t consumed() const = 0;
};

/// Opens a file and decompresses it according to its first bytes: gzip (several members in a row included), Zstandard
/// (several frames, skippable ones included, windows up to 2 GiB) or plain. A name that ends in .gz or .zst over a
/// content that is neither is refused, and so are cut or damaged files, when the reading gets there. Reads pipes too,
/// and standard input by the path "-".
std::unique_ptr<ByteStream> open_stream(const fs::path& path);

}  // namespace moe
