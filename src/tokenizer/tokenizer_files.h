#pragma once
/// Tokenizers on disk: Hugging Face's tokenizer.json, GPT-2's vocab.json and merges.txt, or SentencePiece's
/// tokenizer.model, with tokenizer_config.json, added_tokens.json and special_tokens_map.json beside them. Everything
/// that would change ids and is not supported is an error with its name.

#include <string>

#include "base/file.h"
#include "tokenizer/file_contents.h"

namespace moe {

/// `path` is a folder, a tokenizer.json, a tokenizer.model or a GGUF file.
TokenizerFiles load_tokenizer_files(const fs::path& path);

/// The same from the bytes of a tokenizer.model (src/tokenizer/sentencepiece.h).
TokenizerFiles parse_sentencepiece_files(std::string model, const SideFiles& side, const std::string& name);

/// The same from a GGUF file: texts get the ids that llama.cpp gives (src/tokenizer/gguf_tokenizer.h).
TokenizerFiles load_gguf_tokenizer(const fs::path& path);

/// The same from texts. Errors call tokenizer.json `name`.
TokenizerFiles parse_tokenizer_files(std::string tokenizer_json, const SideFiles& side, const std::string& name);

}  // namespace moe
