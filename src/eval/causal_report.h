#pragma once
/// Which experts matter and which only look busy, for people and for programs.

#include <string>
#include <vector>

#include "eval/causal_table.h"
#include "formats/csv.h"

namespace moe {

/// {"documents", "tokens", "targets", "loss", "domains": {NAME: {"documents", "tokens", "targets", "loss"}},
///  "layers": [{"layer", "rank_correlation", "busy": [expert], "quiet": [expert], "shared": COMPARISON or null,
///  "experts": [{"expert", "tokens", "load", "gate", "domain_tokens": {NAME: tokens}, "change": COMPARISON}]}]},
/// with COMPARISON as in comparison_json(): "a" is the loss without a mask, "b" the masked one. NaN is null.
Json causal_json(const CausalTable& table);

/// A row for each layer, expert (or "shared") and domain, and one with the domain "all".
std::vector<Row> causal_rows(const CausalTable& table);

/// A table for each layer, and which experts matter more or less than they look. With many domains, only all text has a
/// column.
std::string causal_text(const CausalTable& table);

}  // namespace moe
