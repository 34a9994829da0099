#pragma once
/// Text files as documents in memory, for evaluation.

#include <vector>

#include "base/thread_pool.h"
#include "data/builder.h"
#include "data/documents.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// Reads and tokenises every document of all sources, as `moe data` does: BOS, text, EOS, where the tokenizer has them;
/// special tokens spelled in a text are text; its bytes are those of data/scored_text.h. Texts that give no token are
/// passed over. The same ids for any number of threads. A source without any document is a warning; refuses sources
/// that all have none.
MemoryDocuments load_documents(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, ThreadPool& pool,
                               const ReadOptions& options = {});

}  // namespace moe
