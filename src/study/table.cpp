#include "study/table.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/student.h"

namespace moe {
namespace {

/// A curve's loss at the point where `budget` is used up, on the line between two evaluations; the last loss if it used
/// less.
template <class Used>
std::optional<double> loss_at(const JobResult& result, double budget, const Used& used) {
  const CurvePoint* before = nullptr;
  for (const CurvePoint& point : result.curve) {
    const double here = used(result, point);
    if (here == budget) return point.loss;
    if (here > budget) {
      if (before == nullptr) return std::nullopt;
      const double there = used(result, *before);
      return before->loss + (budget - there) / (here - there) * (point.loss - before->loss);
    }
    before = &point;
  }
  return before == nullptr ? std::nullopt : std::optional(before->loss);
}

/// The mean over seeds.
template <class Used>
std::optional<double> mean_loss_at(const SystemSummary& system, double budget, const Used& used) {
  double sum = 0;
  for (const JobResult& result : system.results) {
    const auto loss = loss_at(result, budget, used);
    if (!loss) return std::nullopt;
    sum += *loss;
  }
  return sum / static_cast<double>(system.results.size());
}

template <class LossAt>
std::string ranking(const std::vector<SystemSummary>& systems, const LossAt& loss_of) {
  std::vector<std::pair<double, std::string>> order;
  for (const SystemSummary& system : systems) {
    if (const auto loss = loss_of(system)) order.emplace_back(*loss, system.name);
  }
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [loss, name] : order) text += fmt::format("{}{} {:.4f}", text.empty() ? "" : ", ", name, loss);
  return text.empty() ? "no evaluations that early" : text;
}

double mean_of(const SystemSummary& system, double JobResult::*field) {
  double sum = 0;
  for (const JobResult& result : system.results) sum += result.*field;
  return sum / static_cast<double>(system.results.size());
}

bool sees_later_tokens(const JobResult& result) {
  return result.settings.find("routing = \"expert_choice\"") != std::string::npos;
}

std::string millions(int64_t count) { return fmt::format("{:.2f}M", 1e-6 * static_cast<double>(count)); }

}  // namespace

std::vector<SystemSummary> summarize(const Study& study, const std::vector<JobResult>& results) {
  std::vector<SystemSummary> summaries;
  for (const std::string& name : study.systems) {
    SystemSummary summary{.name = name, .results = {}};
    for (const JobResult& result : results) {
      if (result.system == name && result.diverged == 0) summary.results.push_back(result);
    }
    if (summary.results.empty()) continue;
    const auto count = static_cast<double>(summary.results.size());
    summary.loss = mean_of(summary, &JobResult::loss);
    summary.loss_error = summary.results.front().loss_error;
    if (summary.results.size() > 1) {
      double squares = 0;
      for (const JobResult& result : summary.results)
        squares += (result.loss - summary.loss) * (result.loss - summary.loss);
      summary.loss_error = student_95(count - 1) * std::sqrt(squares / (count - 1) / count);
    }
    summaries.push_back(std::move(summary));
  }
  return summaries;
}

std::optional<double> loss_at_flops(const SystemSummary& system, double flops) {
  return mean_loss_at(system, flops,
                      [](const JobResult& result, const CurvePoint& point) { return result.flops(point.step); });
}

std::optional<double> loss_at_seconds(const SystemSummary& system, double seconds) {
  return mean_loss_at(system, seconds, [](const JobResult&, const CurvePoint& point) { return point.seconds; });
}

std::string study_table(const Study& study, const std::vector<SystemSummary>& systems,
                        const std::vector<JobResult>& results) {
  std::string text = fmt::format(
      "{}: validation loss in nats per token, ± half a 95% interval (over seeds where there are several, else over "
      "documents)\n\n",
      study.title);
  text +=
      "| system | seeds | loss | bits per byte | parameters | activated | TFLOP (causal) | seconds | tokens/s | "
      "memory, GiB "
      "| load max/mean | dropped |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  double flops = std::numeric_limits<double>::infinity(), seconds = flops;
  for (const SystemSummary& system : systems) {
    const JobResult& first = system.results.front();
    const double used = first.flops(first.steps), time = mean_of(system, &JobResult::seconds);
    const double dropped = mean_of(system, &JobResult::dropped);
    flops = std::min(flops, used);
    seconds = std::min(seconds, time);
    text += fmt::format(
        "| {}{} | {} | {:.4f} ± {:.4f} | {:.4f} | {} | {} | {:.1f} | {:.0f} | {:.0f} | {:.2f} | {:.2f} | {} |\n",
        system.name, sees_later_tokens(first) ? " *" : "", system.results.size(), system.loss, system.loss_error,
        mean_of(system, &JobResult::bits_per_byte), millions(first.total_params), millions(first.activated_params),
        used * 1e-12, time, mean_of(system, &JobResult::tokens_per_second),
        static_cast<double>(first.memory_bytes) / (1 << 30), mean_of(system, &JobResult::max_over_mean_load),
        dropped > 0 ? fmt::format("{:.1f}%", 100 * dropped) : "");
  }
  for (const JobResult& result : results) {
    if (result.diverged == 0) continue;
    text += fmt::format("| {} | seed {} | diverged at step {} | | {} | {} | | | | {:.2f} | | |\n", result.system,
                        result.seed, result.diverged, millions(result.total_params), millions(result.activated_params),
                        static_cast<double>(result.memory_bytes) / (1 << 30));
  }
  if (systems.empty()) return text;
  if (std::any_of(systems.begin(), systems.end(),
                  [](const SystemSummary& system) { return sees_later_tokens(system.results.front()); })) {
    text += "\n\\* its experts choose with later tokens in view, so that this is not the loss of a language model\n";
  }
  const auto final_loss = [](const SystemSummary& system) { return std::optional(system.loss); };
  if (study.budget == Budget::flops) {
    text += fmt::format("\nAt equal FLOPs ({:.1f} TFLOP, every schedule ended): {}\n", flops * 1e-12,
                        ranking(systems, final_loss));
  } else {
    text += fmt::format("\nAt equal FLOPs ({:.1f} TFLOP): {}\n", flops * 1e-12,
                        ranking(systems, [&](const SystemSummary& system) { return loss_at_flops(system, flops); }));
  }
  if (study.budget == Budget::seconds) {
    text +=
        fmt::format("\nAt equal time ({:.0f} s, every schedule ended): {}\n", seconds, ranking(systems, final_loss));
  } else {
    text +=
        fmt::format("\nAt equal time ({:.0f} s): {}\n", seconds,
                    ranking(systems, [&](const SystemSummary& system) { return loss_at_seconds(system, seconds); }));
  }
  text += fmt::format(
      "\nWhere a line does not say that every schedule ended, systems that need more are read in mid-schedule, before "
      "their learning rate has fallen (study.budget = \"{}\").\n",
      name(study.budget));
  std::string front;
  for (const SystemSummary& system : systems) {
    const bool beaten = std::any_of(systems.begin(), systems.end(), [&](const SystemSummary& other) {
      return other.results.front().memory_bytes <= system.results.front().memory_bytes && other.loss < system.loss;
    });
    if (!beaten) front += fmt::format("{}{}", front.empty() ? "" : ", ", system.name);
  }
  return text + fmt::format("\nAt equal memory, not beaten by any that needs no more: {}\n", front);
}

}  // namespace moe
