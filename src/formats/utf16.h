#pragma once
/// Reads text in UTF-16, as Windows programs write it, as UTF-8.

#include <memory>
#include <string>

#include "formats/compression.h"

namespace moe {

/// The stream's text in UTF-8. A byte order mark decides the encoding and is dropped. Without a mark,
/// the first 4 KiB decide: text is UTF-16 if it begins with four ASCII characters of two bytes each, or if it is valid
/// as UTF-16, has Latin letters or blanks, and makes no sense as UTF-8. Any other text passes unchanged. UTF-32 is
/// refused, with and without a mark, and so is what begins like a packed file, a PDF or Parquet. UTF-16 that is cut
/// short or has an unpaired surrogate is refused when reading reaches that place. Errors use `name`. consumed() is that
/// of `stream`.
std::unique_ptr<ByteStream> as_utf8(std::unique_ptr<ByteStream> stream, std::string name);

}  // namespace moe
