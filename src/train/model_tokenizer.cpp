#include "train/model_tokenizer.h"

#include "base/error.h"
#include "checkpoint/model_path.h"
#include "formats/gguf.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

/// Ids below `count` stand for the same in both.
bool same_tokens(const Tokenizer& a, const Tokenizer& b, int64_t count) {
  for (int32_t id = 0; id < count; ++id) {
    if (a.has_token(id) != b.has_token(id)) return false;
    if (a.has_token(id) && a.token_bytes(id) != b.token_bytes(id)) return false;
  }
  return true;
}

/// None if the file has no tokenizer, or one of a kind that this program does not read.
std::optional<Tokenizer> tokenizer_of_gguf(const std::string& path) {
  if (!has_gguf_tokenizer(GgufFile(path))) return std::nullopt;
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
  const auto ends_at = [&](int64_t ids) { return model->id_count() == ids && same_tokens(*model, made_with, ids); };
  if (ends_at(made_with.id_count())) return TokenizerMatch::same;
  const DatasetInfo& info = dataset.info();
  return info.base_fingerprint != 0 && ends_at(info.base_ids) ? TokenizerMatch::grown : TokenizerMatch::other;
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
