#pragma once
/// Tokenizers in GGUF files, as llama.cpp keeps them: byte-level BPE ("gpt2") and SentencePiece's BPE ("llama").

#include <string>

#include "formats/gguf.h"
#include "formats/json.h"

namespace moe {

/// Whether the file has a tokenizer of any kind.
bool has_gguf_tokenizer(const GgufFile& file);

/// The file's tokenizer as a tokenizer.json. What would change ids and is not supported is an error with its name.
std::string gguf_tokenizer_json(const GgufFile& file);

/// The file's tokenizer as a tokenizer_config.json: special tokens, and the chat templates as they are.
Json gguf_tokenizer_config(const GgufFile& file);

/// Whether its tokenizer is SentencePiece's, and not of bytes. Another one is an error with its name.
bool is_sentencepiece_in_gguf(const GgufFile& file);

}  // namespace moe
