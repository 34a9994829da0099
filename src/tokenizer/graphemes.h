#pragma once
/// Cuts text into user-perceived characters (extended grapheme clusters, UAX 29).

#include <string_view>

namespace moe {

/// The bytes of the first grapheme of `text`, which is valid UTF-8 and not empty. Where a grapheme ends does not depend
/// on the text before it.
size_t grapheme_length(std::string_view text);

}  // namespace moe
