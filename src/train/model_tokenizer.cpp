#include "train/model_tokenizer.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "base/utf8.h"
#include "checkpoint/model_path.h"
#include "formats/gguf.h"
#include "tokenizer/bpe.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

/// The rows of a model that its tokenizer leaves free are tokens, too, in files of llama.cpp's converter: "[PAD100015]"
/// and so on.
bool stands_for_something(const Tokenizer& tokenizer, int64_t id) {
  const auto token = static_cast<int32_t>(id);
  return tokenizer.has_token(token) && tokenizer.token_bytes(token) != fmt::format("[PAD{}]", id);
}

/// One more than the last id below `end` that stands for something.
int64_t used_ids(const Tokenizer& tokenizer, int64_t end) {
  while (end > 0 && !stands_for_something(tokenizer, end - 1)) --end;
  return end;
}

/// Ids below `count` stand for the same in both.
bool same_tokens(const Tokenizer& a, const Tokenizer& b, int64_t count) {
  for (int32_t id = 0; id < count; ++id) {
    if (a.has_token(id) != b.has_token(id)) return false;
    if (a.has_token(id) && a.token_bytes(id) != b.token_bytes(id)) return false;
  }
  return true;
}

/// Ids by rank: left, right, result.
using Merges = std::vector<std::tuple<int32_t, int32_t, int32_t>>;

Merges merges_of(const Tokenizer& tokenizer) {
  Merges merges;
  merges.reserve(tokenizer.merges().size());
  for (const Merge& merge : tokenizer.merges()) merges.emplace_back(merge.left, merge.right, merge.result);
  return merges;
}

/// SentencePiece has scores of tokens and no merges, and files list the merges of one token in any order: sorts those.
void sort_merges_of_each_token(Merges& merges) {
  for (auto run = merges.begin(); run != merges.end();) {
    const auto end =
        std::find_if(run, merges.end(), [&](const auto& merge) { return std::get<2>(merge) != std::get<2>(*run); });
    std::sort(run, end);
    run = end;
  }
}

/// `path` is the GGUF file of `model`.
bool same_merges(const Tokenizer& model, const Tokenizer& made_with, const std::string& path) {
  Merges a = merges_of(model), b = merges_of(made_with);
  if (a == b) return true;
  if (a.size() != b.size() || !is_sentencepiece_in_gguf(GgufFile(path))) return false;
  sort_merges_of_each_token(a);
  sort_merges_of_each_token(b);
  return a == b;
}

/// Every token that is text, after others than in the vocabulary, so that a text has words, digits and marks side by
/// side and in all scripts that the tokenizer knows.
std::string text_of_all_tokens(const Tokenizer& tokenizer) {
  constexpr int64_t kStride = 7919;  // a prime: every id once, unless their number is a multiple of it
  std::string text;
  const int64_t ids = tokenizer.id_count();
  for (int64_t i = 0; i < ids; ++i) {
    const auto id = static_cast<int32_t>(i * kStride % ids);
    if (!stands_for_something(tokenizer, id) || tokenizer.is_special(id)) continue;
    const std::string bytes(tokenizer.token_bytes(id));
    if (utf8_valid_prefix(bytes) == bytes.size()) text += bytes;
  }
  return text;
}

/// Both divide text into the same words, which tokens and merges do not tell: a GGUF file names its rule alone.
bool same_words(const Tokenizer& model, const Tokenizer& made_with) {
  const std::string text = text_of_all_tokens(model);
  return model.encode(text) == made_with.encode(text);
}

/// None if the file has no tokenizer, or one of a kind that this program does not read.
std::optional<Tokenizer> tokenizer_of_gguf(const std::string& path) {
  try {
    return Tokenizer::load(path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

TokenizerMatch match_gguf(const Dataset& dataset, const std::string& path) {
  const std::optional<Tokenizer> model = tokenizer_of_gguf(path);
  if (!model) return TokenizerMatch::unknown;
  const Tokenizer made_with = Tokenizer::load(dataset.folder());
  if (!same_merges(*model, made_with, path)) return TokenizerMatch::other;
  const auto ends_at = [&](int64_t end) {
    const int64_t ids = used_ids(made_with, end);
    return used_ids(*model, model->id_count()) == ids && same_tokens(*model, made_with, ids);
  };
  const DatasetInfo& info = dataset.info();
  const bool same = ends_at(made_with.id_count());
  const bool grown = !same && info.base_fingerprint != 0 && ends_at(info.base_ids);
  if ((!same && !grown) || !same_words(*model, made_with)) return TokenizerMatch::other;
  return same ? TokenizerMatch::same : TokenizerMatch::grown;
}

}  // namespace

TokenizerMatch match_tokenizer(const Dataset& dataset, const std::string& model) {
  const DatasetInfo& info = dataset.info();
  if (info.tokenizer_fingerprint == 0) return TokenizerMatch::unknown;
  if (is_gguf(model)) return match_gguf(dataset, model);
  if (!has_tokenizer(model)) return TokenizerMatch::unknown;
  const uint64_t of_model = tokenizer_fingerprint(model);
  if (info.tokenizer_fingerprint == of_model) return TokenizerMatch::same;
  return info.base_fingerprint == of_model ? TokenizerMatch::grown : TokenizerMatch::other;
}

NewTokens new_tokens(const RunConfig& run, const Dataset& train) {
  const DatasetInfo& info = train.info();
  if (info.base_fingerprint == 0 || run.from.empty() || !run.kept_in.empty()) return {};
  if (match_tokenizer(train, run.from) == TokenizerMatch::same) return {};
  return {.first = info.base_ids, .end = info.vocab_size};
}

}  // namespace moe
