#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_letters.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

struct EncodeScratch {
  RegexScratch regex;
  BpeScratch bpe;
  PieceCache cache;
};

std::vector<AddedToken> select(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> selected;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(selected),
               [&](const AddedToken& token) { return token.normalized == normalized; });
  return selected;
}

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerFiles given)
      : files(std::move(given)),
        bpe(files.model),
        first_pass(select(files.added, false)),
        second_pass(select(files.added, true)) {
    index_tokens();
  }

  void index_tokens();
  std::unique_ptr<EncodeScratch> take_scratch();
  void return_scratch(std::unique_ptr<EncodeScratch> scratch);

  void encode_text(std::string_view text, bool specials_are_text, EncodeScratch& scratch,
                   std::vector<int32_t>& ids) const;
  void encode_plain(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_cached(size_t split, std::string_view piece, EncodeScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_piece(size_t split, std::string_view piece, EncodeScratch& scratch, std::vector<int32_t>& ids) const;

  TokenizerFiles files;
  Bpe bpe;
  AddedTokenMatcher first_pass, second_pass;  // tokens that are not, and that are, "normalized"
  std::string token_text;                     // bytes of all tokens, one after the other
  std::vector<size_t> token_begin;            // by id, one more than ids
  std::vector<bool> known, special;           // by id

  std::mutex mutex;
  std::vector<std::unique_ptr<EncodeScratch>> idle;  // as many as threads ever encoded at once; their caches stay warm
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
      token_text += from_byte_letters(tokens[id]).value_or(tokens[id]);
    }
    known[id] = added[id] != nullptr || (id < tokens.size() && !tokens[id].empty());
  }
  token_begin.push_back(token_text.size());
  for (const auto* ids : {&files.prefix, &files.suffix}) {
    for (const int32_t id : *ids) {
      if (id < 0 || static_cast<size_t>(id) >= count || !known[static_cast<size_t>(id)]) {
        fail("the tokenizer's post_processor adds id {}, which is no token of its vocabulary", id);
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
                                   std::vector<int32_t>& ids) const {
  first_pass.split(text, specials_are_text, scratch.regex, [&](const AddedTokenMatcher::Part& part) {
    if (part.id >= 0) return ids.push_back(part.id);
    second_pass.split(part.text, specials_are_text, scratch.regex, [&](const AddedTokenMatcher::Part& inner) {
      if (inner.id >= 0) return ids.push_back(inner.id);
      encode_plain(inner.text, scratch, ids);
    });
  });
}

// Expressions see only valid UTF-8: what cannot be a character is a word of its own, and ends the text before it.
void Tokenizer::State::encode_plain(std::string_view text, EncodeScratch& scratch, std::vector<int32_t>& ids) const {
  while (!text.empty()) {
    const size_t valid = utf8_valid_prefix(text);
    if (valid > 0) encode_piece(0, text.substr(0, valid), scratch, ids);
    text.remove_prefix(valid);
    size_t invalid = 0;
    while (invalid < text.size() && utf8_length(text.substr(invalid)) == 0) ++invalid;
    if (invalid > 0) bpe.encode(text.substr(0, invalid), scratch.bpe, ids);
    text.remove_prefix(invalid);
  }
}

void Tokenizer::State::encode_cached(size_t split, std::string_view piece, EncodeScratch& scratch,
                                     std::vector<int32_t>& ids) const {
  if (piece.size() > PieceCache::kMaxPiece) return encode_piece(split, piece, scratch, ids);
  if (scratch.cache.find(split, piece, ids)) return;
  const size_t begin = ids.size();
  encode_piece(split, piece, scratch, ids);
  scratch.cache.insert(split, piece, std::span(ids).subspan(begin));
}

// A piece that a split leaves whole goes on without a look into the cache, where it would not be.
void Tokenizer::State::encode_piece(size_t split, std::string_view piece, EncodeScratch& scratch,
                                    std::vector<int32_t>& ids) const {
  if (split == files.pre_tokenizer.size()) return bpe.encode(piece, scratch.bpe, ids);
  files.pre_tokenizer.cut(split, piece, scratch.regex, [&](std::string_view part) {
    if (part.size() == piece.size()) {
      encode_piece(split + 1, part, scratch, ids);
    } else {
      encode_cached(split + 1, part, scratch, ids);
    }
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
  if (options.add_special) ids.insert(ids.end(), files.prefix.begin(), files.prefix.end());
  auto scratch = state_->take_scratch();
  state_->encode_text(text, !options.parse_special, *scratch, ids);
  state_->return_scratch(std::move(scratch));
  if (options.add_special) ids.insert(ids.end(), files.suffix.begin(), files.suffix.end());
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
  return text;
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

}  // namespace moe
