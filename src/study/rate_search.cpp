#include "study/rate_search.h"

#include <cmath>

#include "study/differences.h"

namespace moe {

std::vector<double> rates_around(double rate) {
  std::vector<double> rates;
  for (double factor = 0.125; factor <= 16; factor *= 2) rates.push_back(factor * rate);
  return rates;
}

fs::path rate_folder(const RunConfig& run) {
  fs::path folder(run.run_dir);
  if (!folder.has_filename()) folder = folder.parent_path();
  return folder.concat(".find-rate");
}

void RateSearch::add(double rate, JobResult result) { trials_.push_back({rate, std::move(result)}); }

std::optional<size_t> RateSearch::best() const {
  std::optional<size_t> found;
  for (size_t i = 0; i < trials_.size(); ++i) {
    if (trials_[i].result.diverged > 0) continue;
    if (!found || trials_[i].result.loss < trials_[*found].result.loss) found = i;
  }
  return found;
}

bool RateSearch::clearly_worse(const Trial& trial) const {
  if (trial.result.diverged > 0) return true;
  const JobResult& least = trials_[*best()].result;
  const auto difference = document_difference(least, trial.result);
  return difference && is_clear(difference->all);
}

bool RateSearch::done() const {
  const auto least = best();
  if (!least || *least + 2 >= trials_.size()) return false;
  return clearly_worse(trials_[trials_.size() - 1]) && clearly_worse(trials_[trials_.size() - 2]);
}

std::vector<double> RateSearch::as_good() const {
  std::vector<double> rates;
  for (const Trial& trial : trials_) {
    if (best() && !clearly_worse(trial)) rates.push_back(trial.rate);
  }
  return rates;
}

std::string RateSearch::text(int64_t steps, int64_t all) const {
  std::string text =
      "| learning rate | validation loss | bits per byte | to the best, bits per byte |\n|---|---|---|---|\n";
  const auto least = best();
  for (size_t i = 0; i < trials_.size(); ++i) {
    const JobResult& result = trials_[i].result;
    const std::string rate =
        fmt::format("{:.4g}{}", trials_[i].rate, std::abs(trials_[i].rate / given_ - 1) < 1e-3 ? " (the run's)" : "");
    if (result.diverged > 0) {
      text += fmt::format("| {} | diverged at step {} | | |\n", rate, result.diverged);
      continue;
    }
    std::string difference = "best";
    if (i != *least) {
      const auto found = document_difference(trials_[*least].result, result);
      difference = found ? difference_text(found->all) : "";
    }
    text += fmt::format("| {} | {:.4f} | {:.4f} | {} |\n", rate, result.loss, result.bits_per_byte, difference);
  }
  if (!least) return text + "\nEvery rate diverged. Choose a much lower optimizer.learning_rate and try again.\n";
  const std::vector<double> good = as_good();
  text += fmt::format("\nBest of these: optimizer.learning_rate = {:.4g}", trials_[*least].rate);
  if (good.size() > 1) {
    std::vector<std::string> names;
    for (const double rate : good) names.push_back(fmt::format("{:.4g}", rate));
    text += fmt::format(". Not clearly worse on these documents: {}", fmt::join(names, ", "));
  }
  text += ".\n";
  if (*least == 0) text += "It is the lowest rate that was tried, so that a lower one may be better.\n";
  if (*least + 1 == trials_.size())
    text += "It is the highest rate that was tried, so that a higher one may be better.\n";
  if (steps < all) {
    text += fmt::format(
        "Each of these runs had {} steps with a complete schedule, the run has {}. Longer runs often need a "
        "lower rate, for instance half of it; search again with more steps to be sure.\n",
        steps, all);
  }
  return text;
}

}  // namespace moe
