#pragma once
/// A dataset of one document, for tests of its tokenizer.

#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "data/shards.h"
#include "tokenizer/new_tokens.h"

namespace moe::test {

/// Made with the tokenizer at `path`, which may have got new tokens.
inline void make_dataset_with(const fs::path& folder, const fs::path& path,
                              const std::vector<std::string>& new_tokens = {}) {
  std::optional<GrownTokenizer> grown;
  if (!new_tokens.empty()) grown = with_new_tokens(path, new_tokens);
  const Tokenizer own = Tokenizer::load(path);
  const Tokenizer& tokenizer = grown ? grown->tokenizer : own;
  DatasetWriter writer(folder, {.vocab_size = tokenizer.id_count(),
                                .bos_id = *tokenizer.bos(),
                                .eos_id = *tokenizer.eos(),
                                .tokenizer_fingerprint = grown ? hash_name(grown->json) : tokenizer_fingerprint(path),
                                .domains = {},
                                .base_fingerprint = grown ? tokenizer_fingerprint(path) : 0,
                                .base_ids = grown ? own.id_count() : 0});
  writer.add_document(tokenizer.encode("the old bridge", {.add_special = false}), writer.add_domain("text"), 14);
  tokenizer.save(writer.temporary_folder());
  writer.finish();
}

}  // namespace moe::test
