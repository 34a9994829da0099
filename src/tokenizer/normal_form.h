#pragma once
/// Unicode's normal forms, with the results of the `tokenizers` library.

#include <optional>
#include <string>
#include <string_view>

namespace moe {

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// The form with this name, such as "NFC"; nothing for other names.
std::optional<NormalForm> normal_form_named(std::string_view name);

/// The text in a normal form. Bytes that are not UTF-8 stay as they are. Takes about the time of a copy for ASCII.
/// Several threads may call it.
std::string normalized(std::string_view text, NormalForm form);

/// True if the text is in the form already, as far as its characters tell by themselves: none of them changes, and none
/// may change with its neighbours.
bool is_surely_normal(std::string_view text, NormalForm form);

}  // namespace moe
