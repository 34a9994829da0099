#pragma once
/// Text to token ids and back: byte-level BPE with the ids of Hugging Face's `tokenizers` library.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace moe {

struct TokenizerFiles;

struct EncodeOptions {
  bool add_special = true;     // BOS and EOS as the tokenizer's files say
  bool parse_special = false;  // special tokens spelled in the text become their ids instead of ordinary text
};

struct DecodeOptions {
  bool keep_special = false;  // special tokens are written out instead of left out
};

/// Immutable after loading; every const member may be called by several threads at once.
class Tokenizer {
 public:
  /// `path` is a folder with tokenizer.json (or GPT-2's vocab.json and merges.txt) or a tokenizer.json; the
  /// tokenizer_config.json beside it says who BOS, EOS and padding are. Errors name the file and what is wrong in it.
  static Tokenizer load(const fs::path& path);
  explicit Tokenizer(TokenizerFiles files);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Writes the files it came from, byte for byte, into an existing folder.
  void save(const fs::path& folder) const;

  /// Any bytes are legal. Valid UTF-8 gets the ids of the `tokenizers` library; other bytes are words of their own.
  /// A byte that the vocabulary cannot spell is an error. `parse_special` is the library's default,
  /// its absence the library's encode_special_tokens.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  /// The same, appended to `ids`.
  void encode(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const;

  /// The bytes of the ids: exactly the encoded text, where no special token was cut out. An id without a token is an
  /// error.
  std::string decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  /// Bytes of one token; an added token stands for its content. An id without a token is an error.
  std::string_view token_bytes(int32_t id) const;
  bool has_token(int32_t id) const;
  bool is_special(int32_t id) const;

  /// One more than the highest id; ids without a token may lie below.
  int32_t id_count() const;
  /// The id of an added token's content, such as "<|endoftext|>".
  std::optional<int32_t> added_token(std::string_view content) const;

  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  std::optional<int32_t> pad() const;
  /// True where encode puts BOS before a text.
  bool adds_bos() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moe
