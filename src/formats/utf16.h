#pragma once
/// Text in UTF-16, as Windows programs write it, read as UTF-8.

#include <memory>
#include <string>

#include "formats/compression.h"

namespace moe {

/// The stream's text in UTF-8. A byte order mark says what it is, and is dropped; without one, text that begins with
/// four ASCII characters of two bytes each is UTF-16. All else passes as it is. UTF-32 is refused, and so is UTF-16
/// that is cut short or has half a pair of surrogates; errors say `name`. consumed() is that of the stream.
std::unique_ptr<ByteStream> as_utf8(std::unique_ptr<ByteStream> stream, std::string name);

}  // namespace moe
