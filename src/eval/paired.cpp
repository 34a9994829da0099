#include "eval/paired.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/student.h"

namespace moe {
namespace {

struct Sums {
  double y = 0, x = 0, x_squares = 0;

  void add(const DocumentLoss& document, LossUnit unit) {
    const double part = amount(document, unit);
    y += document.nats;
    x += part;
    x_squares += part * part;
  }
  double ratio() const { return y / x; }
  double ratio_without(const DocumentLoss& document, LossUnit unit) const {
    return (y - document.nats) / (x - amount(document, unit));
  }

 private:
  static double amount(const DocumentLoss& document, LossUnit unit) {
    return unit == LossUnit::nats_per_token ? static_cast<double>(document.tokens)
                                            : std::numbers::ln2 * static_cast<double>(document.bytes);
  }
};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double squares_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return squares;
}

std::vector<DocumentLoss> of_domain(const DocumentLosses& losses, const std::string& domain) {
  std::vector<DocumentLoss> some;
  for (const DocumentLoss& document : losses.documents) {
    if (losses.domains[static_cast<size_t>(document.domain)] == domain) some.push_back(document);
  }
  return some;
}

std::string line_of(const std::string& name, const Difference& difference) {
  return fmt::format("{:<14} {:>9} {:>10.4f} {:>10.4f} {:>20}\n", name, difference.pairs, difference.a, difference.b,
                     difference_text(difference));
}

Json json_of(const Difference& difference) {
  return {{"documents", difference.pairs},
          {"a", difference.a},
          {"b", difference.b},
          {"difference", difference.difference},
          {"error", difference.error}};
}

}  // namespace

Difference paired_difference(std::span<const DocumentLoss> a, std::span<const DocumentLoss> b, LossUnit unit) {
  MOE_CHECK(a.size() == b.size());
  Sums all_a, all_b;
  std::vector<size_t> pairs;  // documents without a target say nothing
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].tokens == 0 && b[i].tokens == 0) continue;
    all_a.add(a[i], unit);
    all_b.add(b[i], unit);
    pairs.push_back(i);
  }
  Difference result{.pairs = static_cast<int64_t>(pairs.size()), .a = all_a.ratio(), .b = all_b.ratio()};
  result.difference = result.b - result.a;
  if (result.pairs < 2) return result;
  std::vector<double> without;
  for (const size_t i : pairs) {
    without.push_back(all_b.ratio_without(b[i], unit) - all_a.ratio_without(a[i], unit));
  }
  const auto n = static_cast<double>(result.pairs);
  const double degrees = std::max(1.0, all_b.x * all_b.x / all_b.x_squares - 1);
  const double error = student_95(degrees) * std::sqrt((n - 1) / n * squares_of(without));
  if (std::isfinite(error)) result.error = error;
  return result;
}

Difference paired_over_seeds(std::span<const double> a, std::span<const double> b) {
  MOE_CHECK(a.size() == b.size() && !a.empty());
  std::vector<double> differences;
  for (size_t i = 0; i < a.size(); ++i) differences.push_back(b[i] - a[i]);
  Difference result{.pairs = static_cast<int64_t>(a.size()),
                    .a = mean_of({a.begin(), a.end()}),
                    .b = mean_of({b.begin(), b.end()}),
                    .difference = mean_of(differences)};
  const auto n = static_cast<double>(a.size());
  if (a.size() > 1) {
    result.error = student_95(n - 1) * std::sqrt(squares_of(differences) / (n - 1) / n);
  }
  return result;
}

Comparison compare_documents(const DocumentLosses& a, const DocumentLosses& b, LossUnit unit, const std::string& name_a,
                             const std::string& name_b) {
  if (a.documents.size() != b.documents.size()) {
    fail("{} has the losses of {} documents and {} those of {}; compare systems on the same documents", name_a,
         a.documents.size(), name_b, b.documents.size());
  }
  for (size_t i = 0; i < a.documents.size(); ++i) {
    const DocumentLoss &one = a.documents[i], &other = b.documents[i];
    const std::string &domain = a.domains[static_cast<size_t>(one.domain)],
                      &also = b.domains[static_cast<size_t>(other.domain)];
    if (domain == also && one.index == other.index) continue;
    fail("document {} is {} of {} in {}, but {} of {} in {}; compare systems on the same documents", i, one.index,
         domain, name_a, other.index, also, name_b);
  }
  Comparison comparison;
  for (const std::string& domain : a.domains) {
    const std::vector<DocumentLoss> some = of_domain(a, domain), same = of_domain(b, domain);
    if (!some.empty()) comparison.domains.emplace_back(domain, paired_difference(some, same, unit));
  }
  comparison.all = paired_difference(a.documents, b.documents, unit);
  return comparison;
}

bool is_clear(const Difference& difference) { return std::abs(difference.difference) > difference.error; }

std::string difference_text(const Difference& difference) {
  if (std::isnan(difference.difference)) return "-";
  return std::isnan(difference.error) ? fmt::format("{:+.4f}", difference.difference)
                                      : fmt::format("{:+.4f} ± {:.4f}", difference.difference, difference.error);
}

std::string comparison_table(const Comparison& comparison) {
  std::string text =
      fmt::format("{:<14} {:>9} {:>10} {:>10} {:>20}\n", "domain", "documents", "A", "B", "B - A, bits per byte");
  for (const auto& [name, difference] : comparison.domains) text += line_of(name, difference);
  if (comparison.domains.size() > 1) text += line_of("all", comparison.all);
  return text;
}

Json comparison_json(const Comparison& comparison) {
  Json domains = Json::object();
  for (const auto& [name, difference] : comparison.domains) domains[name] = json_of(difference);
  return {{"all", json_of(comparison.all)}, {"domains", domains}};
}

}  // namespace moe
