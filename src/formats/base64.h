#pragma once
/// Bytes as letters, digits, '+' and '/' (RFC 4648, section 4).

#include <optional>
#include <string>
#include <string_view>

namespace moe {

/// The bytes; nothing if the text is not base64. '=' at the end may be missing.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace moe
