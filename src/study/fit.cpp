#include "study/fit.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/random.h"

namespace moe {
namespace {

constexpr size_t kDraws = 2000;
constexpr size_t kCurve = 3;  // coefficients before those of the seeds

/// A row of the least-squares problem: the curve's powers, then one number for each seed after the first.
using Row = std::vector<double>;

/// Solves a x = b by elimination with pivots. `a` is square and not singular.
std::vector<double> solved(std::vector<Row> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t column = 0; column < n; ++column) {
    size_t pivot = column;
    for (size_t row = column + 1; row < n; ++row) {
      if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
    }
    std::swap(a[column], a[pivot]);
    std::swap(b[column], b[pivot]);
    for (size_t row = column + 1; row < n; ++row) {
      const double factor = a[row][column] / a[column][column];
      for (size_t k = column; k < n; ++k) a[row][k] -= factor * a[column][k];
      b[row] -= factor * b[column];
    }
  }
  std::vector<double> x(n);
  for (size_t row = n; row-- > 0;) {
    double sum = b[row];
    for (size_t k = row + 1; k < n; ++k) sum -= a[row][k] * x[k];
    x[row] = sum / a[row][row];
  }
  return x;
}

/// The problem of some runs: how a loss depends on the coefficients.
class Problem {
 public:
  explicit Problem(const std::vector<FittedRun>& runs) {
    std::map<int64_t, size_t> count;
    for (const FittedRun& run : runs) ++count[run.seed];
    for (const auto& [seed, many] : count) seeds_.emplace_back(seed, static_cast<double>(many));
    for (const FittedRun& run : runs) rows_.push_back(row_of(run));
  }

  /// The powers of x, and the seed's share. The last seed's offset is minus the weighted sum of the others, so that the
  /// offsets have the mean 0.
  Row row_of(const FittedRun& run) const {
    const double x = std::log2(run.value);
    Row row = {1, x, x * x};
    const auto& [last, many] = seeds_.back();
    for (size_t i = 0; i + 1 < seeds_.size(); ++i) {
      row.push_back(run.seed == seeds_[i].first ? 1 : run.seed == last ? -seeds_[i].second / many : 0);
    }
    return row;
  }

  std::vector<double> coefficients(const std::vector<double>& losses) const {
    const size_t n = rows_.front().size();
    std::vector<Row> a(n, Row(n));
    std::vector<double> b(n);
    for (size_t run = 0; run < rows_.size(); ++run) {
      for (size_t i = 0; i < n; ++i) {
        for (size_t k = 0; k < n; ++k) a[i][k] += rows_[run][i] * rows_[run][k];
        b[i] += rows_[run][i] * losses[run];
      }
    }
    return solved(std::move(a), std::move(b));
  }

  double predicted(const Row& row, const std::vector<double>& coefficients) const {
    double sum = 0;
    for (size_t i = 0; i < row.size(); ++i) sum += row[i] * coefficients[i];
    return sum;
  }

  const std::vector<Row>& rows() const { return rows_; }

 private:
  std::vector<std::pair<int64_t, double>> seeds_;  // with the number of their runs
  std::vector<Row> rows_;
};

std::vector<double> losses_of(const std::vector<FittedRun>& runs) {
  std::vector<double> losses;
  for (const FittedRun& run : runs) losses.push_back(run.loss);
  return losses;
}

double on_curve(const std::vector<double>& coefficients, double x) {
  return coefficients[0] + coefficients[1] * x + coefficients[2] * x * x;
}

/// Where the curve is lowest within [low, high].
double lowest(const std::vector<double>& coefficients, double low, double high) {
  const double vertex = coefficients[2] > 0 ? -coefficients[1] / (2 * coefficients[2]) : low;
  const double inside = std::clamp(vertex, low, high);
  const double end = on_curve(coefficients, low) <= on_curve(coefficients, high) ? low : high;
  return on_curve(coefficients, inside) <= on_curve(coefficients, end) ? inside : end;
}

/// The error of the mean loss at `value`, predicted by the other runs. A seed that only `value` has counts as the mean.
double error_without(const std::vector<FittedRun>& runs, double value) {
  std::vector<FittedRun> others;
  double observed = 0, count = 0;
  for (const FittedRun& run : runs) {
    if (run.value != value) {
      others.push_back(run);
    } else {
      observed += run.loss;
      ++count;
    }
  }
  const Problem problem(others);
  const std::vector<double> coefficients = problem.coefficients(losses_of(others));
  double predicted = 0;
  for (const FittedRun& run : runs) {
    if (run.value == value) predicted += problem.predicted(problem.row_of(run), coefficients);
  }
  return (observed - predicted) / count;
}

/// The optimum's interval: the middle 95% of the optima of curves whose residuals are drawn again.
std::pair<double, double> interval(const Problem& problem, const std::vector<double>& fitted,
                                   const std::vector<double>& residuals, double low, double high) {
  const Random random(1, hash_name("study fit"));
  std::vector<double> optima, losses(fitted.size());
  for (size_t draw = 0; draw < kDraws; ++draw) {
    for (size_t run = 0; run < fitted.size(); ++run) {
      const uint64_t taken = random.below(draw * fitted.size() + run, residuals.size());
      losses[run] = fitted[run] + residuals[static_cast<size_t>(taken)];
    }
    optima.push_back(lowest(problem.coefficients(losses), low, high));
  }
  std::sort(optima.begin(), optima.end());
  return {optima[kDraws / 40], optima[kDraws - 1 - kDraws / 40]};
}

std::set<double> values_of(const std::vector<FittedRun>& runs) {
  std::set<double> values;
  for (const FittedRun& run : runs) values.insert(run.value);
  return values;
}

/// The value of the axis `key` as a number, and the name of the job's system without it. Nothing without such an axis.
std::optional<std::pair<double, std::string>> place_of(const StudyJob& job, const std::string& key) {
  std::optional<double> value;
  std::vector<std::string> parts;
  if (!job.base.empty()) parts.push_back(job.base);
  for (const GridValue& axis : job.grid) {
    if (axis.key != key) {
      parts.push_back(axis.name + axis.value);
      continue;
    }
    char* end = nullptr;
    value = std::strtod(axis.value.c_str(), &end);
    const bool whole = end == axis.value.c_str() + axis.value.size();
    if (!whole || !std::isfinite(*value) || *value <= 0) {
      fail_usage("--fit {}: study.grid has the value {}, expected numbers above 0", key, axis.value);
    }
  }
  if (!value) return std::nullopt;
  return std::pair(*value, fmt::format("{}", fmt::join(parts, "-")));
}

std::string number_text(double value) {
  const bool whole = std::abs(value - std::round(value)) < 1e-6 * value;
  return whole ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

}  // namespace

double LossFit::at(double value) const {
  const double x = std::log2(value);
  return curve[0] + curve[1] * x + curve[2] * x * x;
}

LossFit fit_loss(std::vector<FittedRun> runs) {
  const std::set<double> values = values_of(runs);
  MOE_CHECK(values.size() >= kLeastFitValues);
  const double low = std::log2(*values.begin()), high = std::log2(*values.rbegin());
  const Problem problem(runs);
  const std::vector<double> coefficients = problem.coefficients(losses_of(runs));
  std::vector<double> fitted, residuals;
  double squares = 0;
  for (size_t run = 0; run < runs.size(); ++run) {
    fitted.push_back(problem.predicted(problem.rows()[run], coefficients));
    residuals.push_back(runs[run].loss - fitted.back());
    squares += residuals.back() * residuals.back();
  }
  // Fitted residuals are smaller than the noise: the coefficients took a part of it.
  const auto count = static_cast<double>(runs.size());
  const double freedom = count - static_cast<double>(coefficients.size());
  const double noise = freedom > 0 ? std::sqrt(squares / freedom) : 0;
  for (double& residual : residuals) residual *= freedom > 0 ? std::sqrt(count / freedom) : 1;

  LossFit fit;
  std::copy_n(coefficients.begin(), kCurve, fit.curve.begin());
  fit.noise = noise;
  double left_out = 0;
  for (const double value : values) left_out += std::pow(error_without(runs, value), 2);
  fit.error_left_out = std::sqrt(left_out / static_cast<double>(values.size()));
  fit.best = std::exp2(lowest(coefficients, low, high));
  const auto [from, to] = interval(problem, fitted, residuals, low, high);
  fit.low = std::exp2(from);
  fit.high = std::exp2(to);
  fit.runs = std::move(runs);
  return fit;
}

std::vector<LossFit> fit_study(const Study& study, const std::vector<JobResult>& results, const std::string& key) {
  std::vector<std::string> names;
  std::map<std::string, std::vector<FittedRun>> runs;
  bool known = false;
  for (const StudyJob& job : study.jobs) {
    const auto place = place_of(job, key);
    if (!place) continue;
    known = true;
    if (runs.try_emplace(place->second).second) names.push_back(place->second);
    for (const JobResult& result : results) {
      if (result.system != job.system || result.seed != job.seed || result.diverged > 0) continue;
      runs[place->second].push_back({.value = place->first, .seed = job.seed, .loss = result.loss});
    }
  }
  if (!known) fail_usage("--fit {}: study.grid has no such key, expected a key of the grid", key);
  std::vector<LossFit> fits;
  for (const std::string& name : names) {
    const size_t values = values_of(runs.at(name)).size();
    if (values < kLeastFitValues) {
      fail_usage("--fit {}: {}results with {} values, expected at least {}; run more of the study", key,
                 name.empty() ? "there are " : name + " has ", values, kLeastFitValues);
    }
    fits.push_back(fit_loss(std::move(runs.at(name))));
    fits.back().systems = name;
  }
  return fits;
}

std::string fit_table(const std::vector<LossFit>& fits, const std::string& key) {
  std::string text = fmt::format(
      "\nLoss against {}: a parabola in its logarithm, with an offset for each seed. The lowest point is looked for "
      "within "
      "the tried values; an interval that ends at the first or last of them may go on beyond it.\n\n"
      "| systems | runs | values | lowest at | 95% interval | loss there | noise | error at a value left out |\n"
      "|---|---|---|---|---|---|---|---|\n",
      key);
  for (const LossFit& fit : fits) {
    std::vector<std::string> values;
    for (const double value : values_of(fit.runs)) values.push_back(number_text(value));
    text += fmt::format("| {} | {} | {} | {} | {} to {} | {:.4f} | {:.4f} | {:.4f} |\n",
                        fit.systems.empty() ? "all" : fit.systems, fit.runs.size(), fmt::join(values, " "),
                        number_text(fit.best), number_text(fit.low), number_text(fit.high), fit.at(fit.best), fit.noise,
                        fit.error_left_out);
  }
  return text;
}

}  // namespace moe
