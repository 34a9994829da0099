#pragma once
/// The difference of two systems that were evaluated on the same documents.

#include <limits>
#include <span>
#include <string>
#include <vector>

#include "eval/document_losses.h"
#include "formats/json.h"

namespace moe {

/// What a loss is divided by.
enum class LossUnit { nats_per_token, bits_per_byte };

/// A difference, and half of its 95% interval.
struct Difference {
  int64_t pairs = 0;                                        ///< documents with a target, or seeds
  double a = 0, b = 0;                                      ///< the values of both systems
  double difference = 0;                                    ///< b - a
  double error = std::numeric_limits<double>::quiet_NaN();  ///< NaN for fewer than two pairs
};

/// The difference of two losses over the same documents, of which `a` and `b` hold the same number in the same order.
///
/// Each loss is a ratio of sums, sum y / sum x (y nats; x tokens or bytes), so the difference is no mean over
/// documents. The interval is the jackknife's: with theta_d the difference without document d, and n documents,
///   t(m - 1) * sqrt((n - 1) / n * sum_d (theta_d - mean theta)^2),  m = (sum x)^2 / sum x^2.
/// It needs no random numbers. Documents of unequal lengths are worth as much as m equal ones (m = n if all are equal);
/// with t(n - 1) instead, intervals of 10 documents whose lengths differ much hold the true difference in 90% of cases.
Difference paired_difference(std::span<const DocumentLoss> a, std::span<const DocumentLoss> b, LossUnit unit);

/// The mean of b - a over pairs of runs that differ in nothing but their seeds, with Student's interval.
Difference paired_over_seeds(std::span<const double> a, std::span<const double> b);

/// By domain, in the order of `a`'s, and the difference over all documents.
struct Comparison {
  std::vector<std::pair<std::string, Difference>> domains;
  Difference all;
};

/// Refuses losses of other documents: `name_a` and `name_b` are what the error calls them.
Comparison compare_documents(const DocumentLosses& a, const DocumentLosses& b, LossUnit unit, const std::string& name_a,
                             const std::string& name_b);

/// True if there is an interval and 0 is outside of it.
bool is_clear(const Difference& difference);

/// "-0.0990 ± 0.0310", or the difference alone if it has no interval.
std::string difference_text(const Difference& difference);

/// A line for each domain and, if there are several, one for all.
std::string comparison_table(const Comparison& comparison);

/// {"all": DIFFERENCE, "domains": {NAME: DIFFERENCE}}, with {"documents", "a", "b", "difference", "error"}.
Json comparison_json(const Comparison& comparison);

}  // namespace moe
