#pragma once
/// The names that GGUF files have for the ways of cutting text into words (tokenizer.ggml.pre).

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/json.h"

namespace moe {

struct GgufPreTokenizer {
  std::string_view name;
  /// Expressions whose matches are pieces of their own, applied in turn; kSingleDigits stands for the step Digits.
  std::span<const std::string_view> expressions;
  bool ignore_merges = false;  ///< a word that is one token needs no merges
  bool adds_bos = false;       ///< where the file does not say it
};

inline constexpr std::string_view kSingleDigits = "digits";

/// Null if this program does not know the name.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

/// All names, separated by commas.
std::string gguf_pre_tokenizer_names();

/// The name for the "pre_tokenizer" of a tokenizer.json; null if there is none.
const GgufPreTokenizer* gguf_pre_tokenizer_of(const Json& pre_tokenizer, bool ignore_merges, const std::string& where);

/// The "pre_tokenizer" of a tokenizer.json, for bytes as letters.
Json to_json(const GgufPreTokenizer& pre_tokenizer);

}  // namespace moe
