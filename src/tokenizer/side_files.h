#pragma once
/// What the files beside a tokenizer's own say, read as Hugging Face's `transformers` reads them: which tokens are
/// added to the vocabulary, and which of them begin, end and pad texts.

#include <string>

#include "tokenizer/tokenizer_files.h"

namespace moe {

/// Adds to `files` the tokens of "added_tokens_decoder" in tokenizer_config.json or, where it has none, those of
/// added_tokens.json; sets bos, eos and pad, for which special_tokens_map.json then goes before tokenizer_config.json;
/// puts BOS and EOS round a text where add_bos_token and add_eos_token say so and the post-processor does not. `folder`
/// is what errors call the folder. A token whose id is another's, or is not the one that it has, is an error.
void apply_side_files(const SideFiles& side, const std::string& folder, TokenizerFiles& files);

}  // namespace moe
