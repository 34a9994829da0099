#pragma once
/// Text files as documents in memory, for evaluation.

#include <vector>

#include "base/thread_pool.h"
#include "data/builder.h"
#include "data/documents.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// Reads and tokenises every document of all sources, as in training data: BOS, text, EOS, where the tokenizer has
/// them; special tokens spelled in a text are text. The same ids for any number of threads. Without BOS nothing
/// predicts a document's first token, so its bytes do not count as text. Refuses a source without any document.
MemoryDocuments load_documents(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, ThreadPool& pool);

}  // namespace moe
