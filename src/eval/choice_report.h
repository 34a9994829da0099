#pragma once
/// Which experts the same tokens chose and which tokens each expert took, for people and for programs.

#include <string>

#include "eval/choice_statistics.h"
#include "formats/json.h"
#include "model/config.h"
#include "tokenizer/tokenizer.h"

namespace moe {

/// {"tokens", "min_count", "layers": [{"layer", "coactivation": [E][E], "pairs": [{"experts": [i, j], "tokens",
///  "expected"}], "experts": [[{"id", "text", "seen", "share"}]]}]}
/// "tokens" is how many were counted; `coactivation` holds numbers of tokens, its diagonal how many chose the expert;
/// `pairs` are top_pairs(), `experts` one list of the first `tokens_per_expert` of top_tokens() per expert. Layers are
/// numbered as in the model.
Json choice_json(const ChoiceStatistics& statistics, const ModelConfig& config, const Tokenizer& tokenizer,
                 int64_t tokens_per_expert);

/// Per layer: the pairs that most tokens chose together, and the experts that stand out by the tokens that they took.
std::string choice_text(const ChoiceStatistics& statistics, const ModelConfig& config, const Tokenizer& tokenizer);

}  // namespace moe
