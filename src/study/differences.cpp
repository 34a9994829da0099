#include "study/differences.h"

#include <algorithm>
#include <map>

namespace moe {
namespace {

constexpr size_t kMostDomains = 8;  // columns of the table

using Pair = std::pair<const JobResult*, const JobResult*>;

std::vector<Pair> common_seeds(const SystemSummary& baseline, const SystemSummary& system) {
  std::vector<Pair> pairs;
  for (const JobResult& result : system.results) {
    for (const JobResult& base : baseline.results) {
      if (base.seed == result.seed) pairs.emplace_back(&base, &result);
    }
  }
  return pairs;
}

bool same_tokens(const JobResult& a, const JobResult& b) {
  return std::equal(a.documents.documents.begin(), a.documents.documents.end(), b.documents.documents.begin(),
                    b.documents.documents.end(),
                    [](const DocumentLoss& one, const DocumentLoss& other) { return one.tokens == other.tokens; });
}

/// The difference of what `value` gives for both results of each pair.
template <class Value>
Difference over_seeds(const std::vector<Pair>& pairs, const Value& value) {
  std::vector<double> a, b;
  for (const auto& [base, result] : pairs) {
    a.push_back(value(*base));
    b.push_back(value(*result));
  }
  return paired_over_seeds(a, b);
}

/// By domain, over seeds, from the comparison of each pair of runs.
void add_domains_over_seeds(const std::vector<Comparison>& comparisons, SystemDifference& difference) {
  for (size_t domain = 0; domain < comparisons.front().domains.size(); ++domain) {
    std::vector<double> a, b;
    for (const Comparison& comparison : comparisons) {
      a.push_back(comparison.domains[domain].second.a);
      b.push_back(comparison.domains[domain].second.b);
    }
    difference.domains.emplace_back(comparisons.front().domains[domain].first, paired_over_seeds(a, b));
  }
}

SystemDifference difference_of(const SystemSummary& baseline, const SystemSummary& system) {
  SystemDifference difference{.system = system.name, .loss = {}, .bits = {}};
  const std::vector<Pair> pairs = common_seeds(baseline, system);
  if (pairs.empty()) {
    difference.why = "no common seed";
    return difference;
  }
  std::vector<Comparison> comparisons;
  try {
    for (const auto& [base, result] : pairs) {
      if (auto comparison = document_difference(*base, *result)) comparisons.push_back(std::move(*comparison));
    }
  } catch (const Error& error) {
    difference.why = error.what();
    return difference;
  }
  const bool all_have_documents = comparisons.size() == pairs.size();
  const bool comparable = !all_have_documents || same_tokens(*pairs.front().first, *pairs.front().second);
  if (pairs.size() > 1) {
    difference.pairs = Pairs::seeds;
    difference.loss = over_seeds(pairs, [](const JobResult& result) { return result.loss; });
    difference.bits = over_seeds(pairs, [](const JobResult& result) { return result.bits_per_byte; });
    if (all_have_documents) add_domains_over_seeds(comparisons, difference);
  } else if (all_have_documents) {
    difference.pairs = Pairs::documents;
    const auto& [base, result] = pairs.front();
    difference.loss =
        paired_difference(base->documents.documents, result->documents.documents, LossUnit::nats_per_token);
    difference.bits = comparisons.front().all;
    difference.domains = comparisons.front().domains;
  } else {
    difference.why = "a result without losses of documents, which older versions did not keep";
  }
  if (!comparable) difference.loss.difference = difference.loss.error = std::numeric_limits<double>::quiet_NaN();
  return difference;
}

const SystemSummary* find(const std::vector<SystemSummary>& systems, const std::string& name) {
  const auto found =
      std::find_if(systems.begin(), systems.end(), [&](const SystemSummary& system) { return system.name == name; });
  return found == systems.end() ? nullptr : &*found;
}

std::string pairs_text(const SystemDifference& difference) {
  return fmt::format("{} {}", difference.bits.pairs, difference.pairs == Pairs::seeds ? "seeds" : "documents");
}

}  // namespace

std::optional<Comparison> document_difference(const JobResult& baseline, const JobResult& result) {
  if (baseline.documents.documents.empty() || result.documents.documents.empty()) return std::nullopt;
  return compare_documents(baseline.documents, result.documents, LossUnit::bits_per_byte, baseline.system,
                           result.system);
}

std::vector<SystemDifference> differences(const Study& study, const std::vector<SystemSummary>& systems) {
  std::vector<SystemDifference> found;
  const SystemSummary* baseline = find(systems, study.baseline);
  if (baseline == nullptr) return found;
  for (const SystemSummary& system : systems) {
    if (&system != baseline) found.push_back(difference_of(*baseline, system));
  }
  return found;
}

std::string difference_table(const Study& study, const std::vector<SystemSummary>& systems) {
  const std::vector<SystemDifference> all = differences(study, systems);
  std::string rows;
  std::map<std::string, std::string> unpaired;  // systems, by reason
  std::vector<std::string> domains;             // of the first system that has them
  for (const SystemDifference& difference : all) {
    if (!domains.empty() || difference.domains.size() < 2 || difference.domains.size() > kMostDomains) continue;
    for (const auto& [name, ignored] : difference.domains) domains.push_back(name);
  }
  for (const SystemDifference& difference : all) {
    if (difference.pairs == Pairs::none) {
      std::string& names = unpaired[difference.why];
      names += fmt::format("{}{}", names.empty() ? "" : ", ", difference.system);
      continue;
    }
    rows += fmt::format("| {} | {} | {} | {} |", difference.system, pairs_text(difference),
                        difference_text(difference.loss), difference_text(difference.bits));
    for (const std::string& domain : domains) {
      const auto own = std::find_if(difference.domains.begin(), difference.domains.end(),
                                    [&](const auto& each) { return each.first == domain; });
      rows += fmt::format(" {} |", own == difference.domains.end() ? "" : difference_text(own->second));
    }
    rows += "\n";
  }
  std::string text;
  if (!rows.empty()) {
    text = fmt::format(
        "\nDifferences to {} in pairs, ± half a 95% interval. Below 0 a system predicts better. The pairs are the "
        "seeds "
        "that both have; with one seed, its validation documents.\n\n| system | pairs | loss | bits per byte |",
        study.baseline);
    for (const std::string& domain : domains) text += fmt::format(" {} |", domain);
    text += "\n|---|---|---|---|";
    for (size_t i = 0; i < domains.size(); ++i) text += "---|";
    text += "\n" + rows;
  }
  for (const auto& [why, names] : unpaired) {
    text += fmt::format("\nWithout a paired difference to {}, because of {}: {}\n", study.baseline, why, names);
  }
  return text;
}

}  // namespace moe
