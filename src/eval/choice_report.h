#pragma once
/// Pairs of experts that the same tokens chose, and the tokens of each expert, for people and for programs.

#include <string>

#include "eval/choice_statistics.h"
#include "formats/json.h"
#include "model/config.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// {"tokens", "min_count", "layers": [{"layer", "coactivation": [E][E], "pairs": [{"experts": [i, j], "tokens",
///  "expected"}], "experts": [[{"id", "text", "seen", "share"}]]}]}
/// "tokens" is the number of counted tokens. `coactivation` holds numbers of tokens; its diagonal has the tokens that
/// chose the expert. `pairs` are top_pairs(). `experts` has one list per expert, with the first `tokens_per_expert` of
/// top_tokens(). Layers are numbered as in the model.
Json choice_json(const ChoiceStatistics& statistics, const ModelConfig& config, const Tokenizer& tokenizer,
                 int64_t tokens_per_expert);

/// For each layer: the pairs that the most tokens chose together, and the experts with the most unusual tokens.
std::string choice_text(const ChoiceStatistics& statistics, const ModelConfig& config, const Tokenizer& tokenizer);

}  // namespace moe
