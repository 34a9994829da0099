#pragma once
/// What masking every expert in turn says: which experts matter, and which only look busy.

#include <string>
#include <vector>

#include "eval/causal.h"
#include "eval/paired.h"

namespace moe {

/// A routed expert beside the loss without it.
struct CausalExpert {
  int64_t expert = 0;
  int64_t tokens = 0;                       ///< that chose it
  double load = 0;                          ///< their share of all tokens; a layer's loads add up to K
  double gate = 0;                          ///< the mean gate of these tokens; NaN if there are none
  std::vector<int64_t> domain_tokens = {};  ///< in the order of the domains
  Comparison change = {};                   ///< of the loss, masked - unmasked, in nats per token
};

struct CausalTableLayer {
  int64_t layer = 0;
  std::vector<CausalExpert> experts = {};   ///< the largest change first
  std::optional<Comparison> unshared = {};  ///< without the shared experts
  double rank_correlation = 0;              ///< of load and change, over the experts; NaN if one of them never differs
  /// Among the third of the experts with the largest load, those of the third with the smallest change.
  std::vector<int64_t> busy = {};
  /// Among the third with the smallest load, those of the third with the largest change.
  std::vector<int64_t> quiet = {};
};

struct CausalDomain {
  std::string name;
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t targets = 0;
  double loss = 0;  ///< unmasked, nats per target; NaN without one
};

struct CausalTable {
  std::vector<CausalDomain> domains;  ///< those with documents
  CausalDomain all;
  std::vector<CausalTableLayer> layers;
};

CausalTable causal_table(const CausalEffects& effects, const Documents& documents, const ModelConfig& config);

}  // namespace moe
