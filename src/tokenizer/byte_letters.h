#pragma once
/// The alphabet of byte-level BPE. Each of the 256 bytes is written as one printable character, so that any byte
/// sequence is a JSON string. Printable ASCII and most of Latin-1 represent themselves; the other 68 bytes are written
/// as U+0100 and above (a blank is U+0120, `Ġ`).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moe {

/// The letter of each byte, in UTF-8.
const std::array<std::string, 256>& byte_letters();

std::string to_byte_letters(std::string_view bytes);

/// The bytes that `letters` spells; nothing if a character of it is not a byte letter.
std::optional<std::string> from_byte_letters(std::string_view letters);

}  // namespace moe
