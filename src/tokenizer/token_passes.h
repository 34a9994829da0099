#pragma once
/// Which added tokens are looked for in a text as it is given, and which in normalized text.

#include <string>
#include <vector>

#include "tokenizer/file_contents.h"

namespace moe {

/// The tokens of one pass. Those that are looked for in normalized text are normalized too, each as a text of its own.
std::vector<AddedToken> tokens_of_pass(const TokenizerFiles& files, bool normalized);

/// Refuses added tokens that Hugging Face's library accepts, and then fails on or takes one of at random when it meets
/// a text with them. Errors call the files `where`.
void check_added_tokens(const TokenizerFiles& files, const std::string& where);

}  // namespace moe
