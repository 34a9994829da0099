#pragma once
/// Learns the merges of byte-pair encoding from word counts: again and again the pair of neighbouring tokens that
/// occurs most often becomes a token.

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/word_counts.h"

namespace moe {

struct LearnedMerges {
  std::vector<std::string> tokens;  // bytes of the new tokens; the first has id `first_byte_id` + 256
  std::vector<Merge> merges;        // one for each new token, in rank order
};

/// Up to `count` merges. Byte b has id `first_byte_id` + b. Among pairs that occur equally often the lower left id
/// wins, then the lower right id, so that the result depends on the counts alone. A pair that occurs once, or whose
/// joined bytes are a token already, is not merged; fewer than `count` merges come out when no other is left.
LearnedMerges learn_merges(const WordCounts& words, int32_t first_byte_id, int32_t count);

}  // namespace moe
