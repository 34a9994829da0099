#include "eval/causal_table.h"

#include <algorithm>
#include <numeric>

#include "base/rank_correlation.h"
#include "eval/routing_report.h"

namespace moe {
namespace {

/// The text without a mask, and how much of it there is.
struct Text {
  DocumentLosses losses;
  std::vector<int64_t> lengths;

  CausalDomain part(const std::string& name, int32_t domain) const {
    CausalDomain part{.name = name};
    double nats = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const DocumentLoss& document = losses.documents[i];
      if (domain >= 0 && document.domain != domain) continue;
      part.documents += 1;
      part.tokens += lengths[i];
      part.targets += document.tokens;
      nats += document.nats;
    }
    part.loss = nats / static_cast<double>(part.targets);
    return part;
  }
};

Comparison change_of(const DocumentLosses& unmasked, const DocumentNats& masked) {
  DocumentLosses losses = unmasked;
  for (size_t i = 0; i < masked.size(); ++i) losses.documents[i].nats = masked[i];
  return compare_documents(unmasked, losses, LossUnit::nats_per_token, "unmasked", "masked");
}

/// The experts of the first third of an order; with fewer than three experts nobody.
std::vector<int64_t> first_third(const std::vector<CausalExpert>& experts, double (*value)(const CausalExpert&),
                                 bool largest) {
  std::vector<size_t> order(experts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return largest ? value(experts[a]) > value(experts[b]) : value(experts[a]) < value(experts[b]);
  });
  std::vector<int64_t> third;
  for (size_t i = 0; i < experts.size() / 3; ++i) third.push_back(experts[order[i]].expert);
  std::sort(third.begin(), third.end());
  return third;
}

std::vector<int64_t> in_both(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  std::vector<int64_t> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

double load_of(const CausalExpert& expert) { return expert.load; }
double change_of(const CausalExpert& expert) { return expert.change.all.difference; }

void summarise(CausalTableLayer& layer) {
  std::vector<double> loads, changes;
  for (const CausalExpert& expert : layer.experts) {
    loads.push_back(load_of(expert));
    changes.push_back(change_of(expert));
  }
  layer.rank_correlation = rank_correlation(loads, changes);
  layer.busy = in_both(first_third(layer.experts, load_of, true), first_third(layer.experts, change_of, false));
  layer.quiet = in_both(first_third(layer.experts, load_of, false), first_third(layer.experts, change_of, true));
}

CausalExpert expert_of(const CausalEffects& effects, const Text& text, int64_t moe_layer, int64_t expert,
                       const DocumentNats& masked) {
  const auto at = static_cast<size_t>(expert);
  const auto chosen = effects.scores.sums(ExpertRule::token, moe_layer)[at];
  CausalExpert found{.expert = expert,
                     .tokens = static_cast<int64_t>(chosen),
                     .load = chosen / static_cast<double>(effects.scores.tokens),
                     .gate = effects.scores.sums(ExpertRule::gate, moe_layer)[at] / chosen,
                     .change = change_of(text.losses, masked)};
  for (size_t domain = 0; domain < text.losses.domains.size(); ++domain) {
    found.domain_tokens.push_back(effects.routing.of(moe_layer, static_cast<int64_t>(domain))[at]);
  }
  return found;
}

}  // namespace

CausalTable causal_table(const CausalEffects& effects, const Documents& documents, const ModelConfig& config) {
  Text text{.losses = document_losses(documents, effects.unmasked), .lengths = {}};
  for (int64_t document = 0; document < documents.count(); ++document) {
    text.lengths.push_back(documents.length(document));
  }
  CausalTable table{.domains = {}, .all = text.part("all", -1), .layers = {}};
  const std::vector<int64_t> numbers = moe_layer_numbers(config);
  for (const CausalLayer& of_layer : effects.layers) {
    const auto moe_layer = std::find(numbers.begin(), numbers.end(), of_layer.layer) - numbers.begin();
    CausalTableLayer& layer = table.layers.emplace_back(CausalTableLayer{.layer = of_layer.layer});
    for (size_t expert = 0; expert < of_layer.masked.size(); ++expert) {
      layer.experts.push_back(
          expert_of(effects, text, moe_layer, static_cast<int64_t>(expert), of_layer.masked[expert]));
    }
    if (of_layer.unshared) layer.unshared = change_of(text.losses, *of_layer.unshared);
    summarise(layer);
    std::stable_sort(layer.experts.begin(), layer.experts.end(),
                     [](const CausalExpert& a, const CausalExpert& b) { return change_of(a) > change_of(b); });
  }
  // Domains without documents have no place in the table, and their counts neither.
  for (size_t domain = text.losses.domains.size(); domain-- > 0;) {
    CausalDomain part = text.part(text.losses.domains[domain], static_cast<int32_t>(domain));
    if (part.documents > 0) {
      table.domains.insert(table.domains.begin(), std::move(part));
      continue;
    }
    for (CausalTableLayer& layer : table.layers) {
      for (CausalExpert& expert : layer.experts) {
        expert.domain_tokens.erase(expert.domain_tokens.begin() + static_cast<int64_t>(domain));
      }
    }
  }
  return table;
}

}  // namespace moe
