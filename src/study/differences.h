#pragma once
/// Differences of a study's systems to its baseline, in pairs.

#include "eval/paired.h"
#include "study/table.h"

namespace moe {

/// What the pairs of a difference are.
enum class Pairs {
  none,       ///< no seed of both has the losses of its documents
  documents,  ///< the validation documents of the one seed that both have
  seeds       ///< the seeds that both have
};

struct SystemDifference {
  std::string system;
  Pairs pairs = Pairs::none;
  Difference loss;  ///< nats per token; NaN where the systems have different tokens
  Difference bits;  ///< bits per byte
  /// Bits per byte by domain, where all results have the losses of their documents.
  std::vector<std::pair<std::string, Difference>> domains = {};
  std::string why = {};  ///< there are no pairs
};

/// One for each system but the baseline, in their order; empty if the baseline has no result.
std::vector<SystemDifference> differences(const Study& study, const std::vector<SystemSummary>& systems);

/// The difference of two results with the same seed, in pairs of documents. Nothing if one has no losses of documents.
std::optional<Comparison> document_difference(const JobResult& baseline, const JobResult& result);

/// A Markdown table with a heading, and a sentence for the systems that have no pairs. "" without a baseline.
std::string difference_table(const Study& study, const std::vector<SystemSummary>& systems);

}  // namespace moe
