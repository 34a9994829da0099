#pragma once
/// Reads text in UTF-16, as Windows programs write it, as UTF-8.

#include <memory>
#include <string>

#include "formats/compression.h"

namespace moe {

/// The stream's text in UTF-8. A byte order mark decides the encoding and is dropped. Without a mark, text is UTF-16 if
/// it begins with four ASCII characters of two bytes each. Any other text passes unchanged. UTF-32 is refused. UTF-16
/// that is cut short or has an unpaired surrogate is refused. Errors use `name`. consumed() is that of `stream`.
std::unique_ptr<ByteStream> as_utf8(std::unique_ptr<ByteStream> stream, std::string name);

}  // namespace moe
