#pragma once
/// Text files as documents in memory, for evaluation.

#include <vector>

#include "base/thread_pool.h"
#include "data/builder.h"
#include "data/documents.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// A text as a document: BOS, text, EOS, if the tokenizer has them. Special tokens written in the text are ordinary
/// text. Empty for a text without tokens.
std::vector<int32_t> document_ids(const Tokenizer& tokenizer, std::string_view text);

/// Reads and tokenises every document of all sources, like `moe data`: BOS, text, EOS, if the tokenizer has them.
/// Special tokens written in a text are ordinary text. Bytes are counted as in data/scored_text.h. Texts without tokens
/// are skipped. The ids are the same for any number of threads. A source without documents gives a warning; if no
/// source has a document, that is an error.
MemoryDocuments load_documents(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, ThreadPool& pool,
                               const ReadOptions& options = {});

/// The first documents of one file, read no further than `most_tokens` tokens; what the last one has beyond them is
/// cut. Documents as above; one that cannot be read is an error.
MemoryDocuments load_first_documents(const fs::path& file, const Tokenizer& tokenizer, int64_t most_tokens);

}  // namespace moe
