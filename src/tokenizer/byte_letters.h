#pragma once
/// The alphabet of byte-level BPE: each of the 256 bytes is written as one printable character, so that any byte
/// sequence is a string of JSON. Printable ASCII and most of Latin-1 stand for themselves, the other 68 bytes for
/// U+0100 upwards (a blank is U+0120, `Ġ`).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moe {

/// The letter of each byte, in UTF-8.
const std::array<std::string, 256>& byte_letters();

std::string to_byte_letters(std::string_view bytes);

/// The bytes that `letters` spells, or nothing where a character of it is no byte letter.
std::optional<std::string> from_byte_letters(std::string_view letters);

}  // namespace moe
