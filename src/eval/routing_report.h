#pragma once
/// Routing statistics of an evaluation, for people and for programs.

#include <string>
#include <vector>

#include "eval/loss.h"
#include "formats/json.h"

namespace moe {

/// An expert that the tokens of one domain choose more often than those of other domains.
struct DomainExpert {
  int64_t layer = 0;  ///< index among the MoE layers
  int64_t expert = 0;
  double share = 0;   ///< its share of the domain's choices in that layer
  double others = 0;  ///< the mean of its shares in the other domains
};

/// The `count` experts of all layers with the largest share - others, largest first. Empty if fewer than two domains
/// have tokens.
std::vector<DomainExpert> top_experts(const RoutingCounts& routing, int64_t domain, int64_t count);

/// The index in the model of each MoE layer.
std::vector<int64_t> moe_layer_numbers(const ModelConfig& config);

/// {"experts", "top_k", "layers": [{"layer", "entropy", "max_over_mean", "dead", "dropped", "load": [E],
///  "domains": {NAME: [E]}, "overlap": [D][D]}], "top_experts": {NAME: [{"layer", "expert", "share", "others"}]},
///  "overlap": {"domains": [NAME], "mean": [D][D]}}
/// Loads are shares of the choices. Overlaps are group_overlap() in the order of "domains" (null for a domain without
/// tokens). Layers are numbered as in the model. Null for a model without MoE layers.
Json routing_json(const EvaluationResult& result, const ModelConfig& config);

/// Tables: the load of each layer; with several domains also the experts that took each domain, and how similar their
/// loads are. "" for a model without MoE layers.
std::string routing_text(const EvaluationResult& result, const ModelConfig& config);

}  // namespace moe
