#pragma once
/// Reads plain, gzip and Zstandard files as streams of bytes.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/file.h"

namespace moe {

/// A sequence of bytes that is read once, from its beginning. Errors name the file. Use a stream on one thread at a
/// time.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Writes between 1 and `size` bytes to `data` (size > 0) and returns their number; 0 means the end.
  virtual size_t read(char* data, size_t size) = 0;
  /// The bytes read so far of the file on disk, for progress.
  virtual uint64_t consumed() const = 0;
};

/// Opens a file and decompresses it. Its first bytes decide how: gzip (also several members), Zstandard (several
/// frames, also skippable ones, windows up to 2 GiB) or plain. A name that ends in .gz or .zst is refused if the
/// content is neither. Cut or damaged files are refused when reading reaches the damage: what was decoded before it is
/// read first. Reads pipes too, and standard
/// input for the path "-".
std::unique_ptr<ByteStream> open_stream(const fs::path& path);

}  // namespace moe
