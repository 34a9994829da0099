#pragma once
/// Learns the merges of byte-pair encoding from word counts: the most frequent pair of neighbouring tokens becomes a
/// new token, again and again.

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/word_counts.h"

namespace moe {

struct LearnedMerges {
  std::vector<std::string> tokens;  // bytes of the new tokens; the first one has id `first_byte_id` + 256
  std::vector<Merge> merges;        // one for each new token, in rank order
};

/// Up to `count` merges. Byte b has id `first_byte_id` + b. Among equally frequent pairs the lower left id wins, then
/// the lower right id, so the result depends only on the counts. A pair that occurs once is not merged, and a pair
/// whose joined bytes are already a token is not merged. If no other pair is left, the result has fewer than `count`
/// merges.
LearnedMerges learn_merges(const WordCounts& words, int32_t first_byte_id, int32_t count);

}  // namespace moe
