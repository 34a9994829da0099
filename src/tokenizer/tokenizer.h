#pragma once
/// Text to token ids and back: BPE on bytes or on characters, or a unigram model, with the ids of Hugging Face's
/// `tokenizers` library, or of SentencePiece for its own files.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace moe {

struct Merge;
struct TokenizerFiles;

struct EncodeOptions {
  bool add_special = true;     // add BOS and EOS as the tokenizer's files say
  bool parse_special = false;  // special tokens in the text become their ids; otherwise they are ordinary text
};

struct DecodeOptions {
  bool keep_special = false;  // write special tokens; otherwise they are left out
};

/// It does not change after loading. Several threads may call const members at once.
class Tokenizer {
 public:
  /// `path` is a folder with tokenizer.json, GPT-2's vocab.json and merges.txt, or SentencePiece's tokenizer.model; or
  /// a tokenizer.json or a tokenizer.model; or a GGUF file. The tokenizer_config.json beside it names BOS, EOS and
  /// padding. Errors name the file and the mistake in it.
  static Tokenizer load(const fs::path& path);
  explicit Tokenizer(TokenizerFiles files);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Writes its original files, byte for byte, into an existing folder.
  void save(const fs::path& folder) const;

  /// Any bytes are allowed. Valid UTF-8 gets the ids of the `tokenizers` library; other bytes are separate words. A
  /// byte that the vocabulary does not have is an error; in a unigram model it may be the unknown token.
  /// `parse_special` is the library's default; without it, encode behaves like the library with encode_special_tokens.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  /// The same, appended to `ids`.
  void encode(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const;

  /// The bytes of the ids: exactly the encoded text, if no special token was removed, in the normal form that the
  /// tokenizer gives it, if any. A vocabulary of characters that puts a blank before a text loses it here again. What
  /// an unknown token stood for is lost. An id without a token is an error.
  std::string decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  /// What the tokens of `text` stand for: the text after the tokenizer's changes that come before all cuts (normal
  /// forms, replacements, a blank before the text), with blanks where its vocabulary has marks.
  std::string normalized(std::string_view text) const;

  /// The bytes of one token; for an added token, its content. An id without a token is an error.
  std::string_view token_bytes(int32_t id) const;
  bool has_token(int32_t id) const;
  bool is_special(int32_t id) const;

  /// By rank; none in a unigram model.
  std::span<const Merge> merges() const;

  /// One more than the highest id. Some lower ids may have no token.
  int32_t id_count() const;
  /// The id of an added token's content, such as "<|endoftext|>".
  std::optional<int32_t> added_token(std::string_view content) const;

  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  std::optional<int32_t> pad() const;
  /// True if encode puts BOS before a text.
  bool adds_bos() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The ids of a text that a model continues: BOS first if the tokenizer adds one, and never an EOS. With
/// `parse_special`, special tokens in the text become their ids, and a text that begins with BOS gets no other.
std::vector<int32_t> encode_after_bos(const Tokenizer& tokenizer, std::string_view text, bool parse_special);

}  // namespace moe
