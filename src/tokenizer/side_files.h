#pragma once
/// Reads the files beside a tokenizer's own files, like Hugging Face's `transformers`: the tokens that are added to the
/// vocabulary, and those that begin, end and pad texts.

#include <string>

#include "tokenizer/file_contents.h"

namespace moe {

/// Adds to `files` the tokens of "added_tokens_decoder" in tokenizer_config.json; if that is absent, the tokens of
/// added_tokens.json. Sets bos, eos and pad; without "added_tokens_decoder", special_tokens_map.json has priority over
/// tokenizer_config.json. Puts BOS and EOS around a text if add_bos_token and add_eos_token say so and the
/// post-processor does not. Errors call the folder `folder`. A token whose id belongs to another token, or differs from
/// its own, is an error.
void apply_side_files(const SideFiles& side, const std::string& folder, TokenizerFiles& files);

}  // namespace moe
