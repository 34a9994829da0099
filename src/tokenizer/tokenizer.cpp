#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_letters.h"
#include "tokenizer/id_writer.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/token_passes.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/word_cache.h"

namespace moe {
namespace {

struct EncodeScratch {
  RegexScratch regex;
  BpeScratch bpe;
  UnigramScratch unigram;
  std::vector<int32_t> merged;
  WordCache words;
  PieceCache pieces;
};

std::string marks_to_blanks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool mark = text.compare(at, kBlankMark.size(), kBlankMark) == 0;
    out += mark ? ' ' : text[at];
    at += mark ? kBlankMark.size() : 1;
  }
  return out;
}

/// The bytes that a token of the vocabulary stands for in decoded text.
std::string decoded_token(const TokenizerFiles& files, const std::string& token) {
  if (files.model.alphabet == Alphabet::bytes) return from_byte_letters(token).value_or(token);
  int byte = 0;
  const bool byte_fallback = !files.unigram || files.unigram->byte_fallback;
  if (byte_fallback && token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') &&
      std::from_chars(token.data() + 3, token.data() + 5, byte, 16).ptr == token.data() + 5) {
    return std::string(1, static_cast<char>(byte));
  }
  return files.decodes_marks ? marks_to_blanks(token) : token;
}

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerFiles given)
      : files(std::move(given)),
        bpe(files.model),
        first_pass(tokens_of_pass(files, false)),
        second_pass(tokens_of_pass(files, true)) {
    if (files.unigram) unigram.emplace(*files.unigram, files.model.tokens);
    index_tokens();
  }

  class WordBatch;

  void index_tokens();
  std::unique_ptr<EncodeScratch> take_scratch();
  void return_scratch(std::unique_ptr<EncodeScratch> scratch);

  void encode_text(std::string_view text, bool specials_are_text, EncodeScratch& scratch, IdWriter& ids) const;
  void encode_plain(std::string_view text, EncodeScratch& scratch, IdWriter& ids) const;
  void encode_cached(size_t split, std::string_view piece, EncodeScratch& scratch, IdWriter& ids) const;
  void encode_piece(size_t split, std::string_view piece, EncodeScratch& scratch, IdWriter& ids) const;
  void encode_word(std::string_view word, const char* limit, EncodeScratch& scratch, IdWriter& ids) const;
  void encode_long_word(std::string_view word, const char* limit, EncodeScratch& scratch, IdWriter& ids) const;
  void encode_parts(std::string_view word, const char* limit, EncodeScratch& scratch, IdWriter& ids) const;
  template <bool part>
  void encode_short(std::string_view word, const WordCache::Key& key, EncodeScratch& scratch, IdWriter& ids) const;

  TokenizerFiles files;
  Bpe bpe;
  std::optional<Unigram> unigram;             // instead of bpe
  AddedTokenMatcher first_pass, second_pass;  // tokens without and with "normalized"
  std::string token_text;                     // bytes of all tokens, one after the other
  std::vector<size_t> token_begin;            // by id, one more than ids
  std::vector<bool> known, special;           // by id

  std::mutex mutex;
  // as many as the most threads that encoded at once; their caches stay warm
  std::vector<std::unique_ptr<EncodeScratch>> idle;
};

/// Words of one text that are looked up together: while the entries of the first words are used, those of the last are
/// still being loaded from memory.
class Tokenizer::State::WordBatch {
 public:
  WordBatch(const State& state, const char* limit, EncodeScratch& scratch, IdWriter& ids)
      : state_(state), limit_(limit), scratch_(scratch), ids_(ids) {}

  void add(std::string_view word) {
    words_[count_] = word;
    if (word.size() <= WordCache::kMaxWord) {
      keys_[count_] = WordCache::key_of(word.data(), word.size(), limit_, false);
      __builtin_prefetch(&scratch_.words.at(keys_[count_]));
    }
    if (++count_ == kSize) finish();
  }

  void finish() {
    for (size_t i = 0; i < count_; ++i) {
      if (words_[i].size() <= WordCache::kMaxWord) {
        state_.encode_short<false>(words_[i], keys_[i], scratch_, ids_);
      } else {
        state_.encode_long_word(words_[i], limit_, scratch_, ids_);
      }
    }
    count_ = 0;
  }

 private:
  static constexpr size_t kSize = 16;

  const State& state_;
  const char* limit_;
  EncodeScratch& scratch_;
  IdWriter& ids_;
  size_t count_ = 0;
  std::array<std::string_view, kSize> words_;
  std::array<WordCache::Key, kSize> keys_;
};

void Tokenizer::State::index_tokens() {
  const auto& tokens = files.model.tokens;
  size_t count = tokens.size();
  for (const AddedToken& token : files.added) count = std::max(count, static_cast<size_t>(token.id) + 1);
  known.resize(count);
  special.resize(count);
  std::vector<const AddedToken*> added(count, nullptr);
  for (const AddedToken& token : files.added) added[static_cast<size_t>(token.id)] = &token;
  for (size_t id = 0; id < count; ++id) {
    token_begin.push_back(token_text.size());
    if (added[id] != nullptr) {
      token_text += added[id]->content;
      special[id] = added[id]->special;
    } else if (id < tokens.size()) {
      token_text += decoded_token(files, tokens[id]);
    }
    known[id] = added[id] != nullptr || (id < tokens.size() && !tokens[id].empty());
  }
  token_begin.push_back(token_text.size());
  for (const auto* ids : {&files.prefix, &files.suffix}) {
    for (const int32_t id : *ids) {
      if (id < 0 || static_cast<size_t>(id) >= count || !known[static_cast<size_t>(id)]) {
        fail("the tokenizer's post_processor adds id {}, which is not in its vocabulary", id);
      }
    }
  }
}

std::unique_ptr<EncodeScratch> Tokenizer::State::take_scratch() {
  std::lock_guard lock(mutex);
  if (idle.empty()) return std::make_unique<EncodeScratch>();
  auto scratch = std::move(idle.back());
  idle.pop_back();
  return scratch;
}

void Tokenizer::State::return_scratch(std::unique_ptr<EncodeScratch> scratch) {
  std::lock_guard lock(mutex);
  idle.push_back(std::move(scratch));
}

void Tokenizer::State::encode_text(std::string_view text, bool specials_are_text, EncodeScratch& scratch,
                                   IdWriter& ids) const {
  std::string normalized, marked;
  first_pass.split(text, specials_are_text, [&](const AddedTokenMatcher::Part& part) {
    if (part.id >= 0) return ids.append(part.id);
    const bool first = part.text.data() == text.data();
    std::string_view outer = part.text;
    if (!files.normalizer.keeps(outer)) outer = normalized = files.normalizer.apply(outer, first);
    second_pass.split(outer, specials_are_text, [&](const AddedTokenMatcher::Part& inner) {
      if (inner.id >= 0) return ids.append(inner.id);
      if (files.marks.empty()) return encode_plain(inner.text, scratch, ids);
      marked = files.marks.apply(inner.text, first && inner.text.data() == outer.data());
      encode_plain(marked, scratch, ids);
    });
  });
}

// Expressions see only valid UTF-8. Bytes that are not a character are a separate word, and end the text before them.
void Tokenizer::State::encode_plain(std::string_view text, EncodeScratch& scratch, IdWriter& ids) const {
  while (!text.empty()) {
    const size_t valid = utf8_valid_prefix(text);
    if (valid > 0) encode_piece(0, text.substr(0, valid), scratch, ids);
    text.remove_prefix(valid);
    size_t invalid = 0;
    while (invalid < text.size() && utf8_length(text.substr(invalid)) == 0) ++invalid;
    if (invalid > 0) encode_parts(text.substr(0, invalid), text.data() + invalid, scratch, ids);
    text.remove_prefix(invalid);
  }
}

void Tokenizer::State::encode_cached(size_t split, std::string_view piece, EncodeScratch& scratch,
                                     IdWriter& ids) const {
  if (piece.size() > PieceCache::kMaxPiece) return encode_piece(split, piece, scratch, ids);
  if (const auto found = scratch.pieces.find(split, piece)) return ids.append(*found);
  const size_t begin = ids.size();
  encode_piece(split, piece, scratch, ids);
  scratch.pieces.insert(split, piece, ids.since(begin));
}

// A piece that a split does not cut is not looked up in the cache, because it would not be there.
void Tokenizer::State::encode_piece(size_t split, std::string_view given, EncodeScratch& scratch, IdWriter& ids) const {
  const PreTokenizer& splits = files.pre_tokenizer;
  if (split == splits.size()) return encode_word(given, given.data() + given.size(), scratch, ids);
  std::string buffer;
  const std::string_view piece = splits.prepare(split, given, buffer);
  const char* const limit = piece.data() + piece.size();
  if (split + 1 == splits.size()) {
    WordBatch batch(*this, limit, scratch, ids);
    splits.cut(split, piece, scratch.regex, [&](std::string_view word) { batch.add(word); });
    return batch.finish();
  }
  splits.cut(split, piece, scratch.regex, [&](std::string_view part) {
    if (part.size() == piece.size()) {
      encode_piece(split + 1, part, scratch, ids);
    } else {
      encode_cached(split + 1, part, scratch, ids);
    }
  });
}

template <bool part>
inline void Tokenizer::State::encode_short(std::string_view word, const WordCache::Key& key, EncodeScratch& scratch,
                                           IdWriter& ids) const {
  const WordCache::Entry& entry = scratch.words.at(key);
  if (entry.holds(key)) [[likely]] {
    std::memcpy(ids.room(WordCache::kMaxIds), entry.ids(), WordCache::kMaxIds * sizeof(int32_t));
    ids.advance(entry.count());
    return;
  }
  scratch.merged.clear();
  if (unigram) {
    unigram->encode(word, scratch.unigram, scratch.merged);
  } else if constexpr (part) {
    bpe.merge(word, scratch.bpe, scratch.merged);
  } else {
    bpe.encode(word, scratch.bpe, scratch.merged);
  }
  scratch.words.insert(key, scratch.merged);
  ids.append(scratch.merged);
}

void Tokenizer::State::encode_word(std::string_view word, const char* limit, EncodeScratch& scratch,
                                   IdWriter& ids) const {
  if (word.size() > WordCache::kMaxWord) return encode_long_word(word, limit, scratch, ids);
  encode_short<false>(word, WordCache::key_of(word.data(), word.size(), limit, false), scratch, ids);
}

void Tokenizer::State::encode_long_word(std::string_view word, const char* limit, EncodeScratch& scratch,
                                        IdWriter& ids) const {
  const size_t stage = files.pre_tokenizer.size();
  if (word.size() > PieceCache::kMaxPiece) return encode_parts(word, limit, scratch, ids);
  if (const auto found = scratch.pieces.find(stage, word)) return ids.append(*found);
  const size_t begin = ids.size();
  encode_parts(word, limit, scratch, ids);
  scratch.pieces.insert(stage, word, ids.since(begin));
}

void Tokenizer::State::encode_parts(std::string_view word, const char* limit, EncodeScratch& scratch,
                                    IdWriter& ids) const {
  if (unigram) {
    scratch.merged.clear();
    unigram->encode(word, scratch.unigram, scratch.merged);
    return ids.append(scratch.merged);
  }
  if (const auto whole = bpe.whole_word(word)) return ids.append(*whole);
  bpe.for_each_part(word, [&](std::string_view part) {
    if (part.size() <= WordCache::kMaxWord) {
      return encode_short<true>(part, WordCache::key_of(part.data(), part.size(), limit, true), scratch, ids);
    }
    scratch.merged.clear();
    bpe.merge(part, scratch.bpe, scratch.merged);
    ids.append(scratch.merged);
  });
}

Tokenizer Tokenizer::load(const fs::path& path) { return Tokenizer(load_tokenizer_files(path)); }

Tokenizer::Tokenizer(TokenizerFiles files) : state_(std::make_unique<State>(std::move(files))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

void Tokenizer::save(const fs::path& folder) const {
  for (const auto& [name, content] : state_->files.contents) write_file(folder / name, content);
}

void Tokenizer::encode(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const {
  const auto& files = state_->files;
  IdWriter writer(ids, text.size() / 4 + files.prefix.size() + files.suffix.size());
  if (options.add_special) writer.append(files.prefix);
  auto scratch = state_->take_scratch();
  state_->encode_text(text, !options.parse_special, *scratch, writer);
  state_->return_scratch(std::move(scratch));
  if (options.add_special) writer.append(files.suffix);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  encode(text, options, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, DecodeOptions options) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string_view bytes = token_bytes(id);
    if (options.keep_special || !is_special(id)) text += bytes;
  }
  if (state_->files.strips_blank && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::string Tokenizer::normalized(std::string_view given) const {
  const TokenizerFiles& files = state_->files;
  std::string text = files.normalizer.empty() ? std::string(given) : files.normalizer.apply(given, true);
  if (!files.marks.empty()) text = files.marks.apply(text, true);
  return files.decodes_marks ? marks_to_blanks(text) : text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (!has_token(id)) {
    if (id >= 0 && id < id_count()) fail("id {} has no token in this tokenizer", id);
    fail("id {} is outside this tokenizer's vocabulary, whose ids are 0 to {}", id, id_count() - 1);
  }
  const auto& begin = state_->token_begin;
  const auto index = static_cast<size_t>(id);
  return std::string_view(state_->token_text).substr(begin[index], begin[index + 1] - begin[index]);
}

bool Tokenizer::has_token(int32_t id) const {
  return id >= 0 && id < id_count() && state_->known[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const { return has_token(id) && state_->special[static_cast<size_t>(id)]; }

std::span<const Merge> Tokenizer::merges() const { return state_->files.model.merges; }

int32_t Tokenizer::id_count() const { return static_cast<int32_t>(state_->known.size()); }

std::optional<int32_t> Tokenizer::added_token(std::string_view content) const {
  for (const AddedToken& token : state_->files.added) {
    if (token.content == content) return token.id;
  }
  return std::nullopt;
}

std::optional<int32_t> Tokenizer::bos() const { return state_->files.bos; }
std::optional<int32_t> Tokenizer::eos() const { return state_->files.eos; }
std::optional<int32_t> Tokenizer::pad() const { return state_->files.pad; }

bool Tokenizer::adds_bos() const {
  const auto& prefix = state_->files.prefix;
  return state_->files.bos && std::find(prefix.begin(), prefix.end(), *state_->files.bos) != prefix.end();
}

std::vector<int32_t> encode_after_bos(const Tokenizer& tokenizer, std::string_view text, bool parse_special) {
  std::vector<int32_t> ids = tokenizer.encode(text, {.add_special = false, .parse_special = parse_special});
  const bool begins_with_bos = parse_special && !ids.empty() && ids.front() == tokenizer.bos();
  if (tokenizer.adds_bos() && !begins_with_bos) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

}  // namespace moe
