#include "study/plan.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/paths.h"
#include "model/cost.h"
#include "model/parameters.h"
#include "train/start_text.h"

namespace moe {
namespace {

constexpr double kMatched = 0.02;  // the largest relative difference of systems that count as matched

bool has_dataset(const std::string& folder) { return path_exists(fs::path(folder) / "dataset.json"); }

SystemPlan plan_of(const Study& study, const StudyJob& job, const Place& place,
                   const std::function<double(DType)>& product_rate) {
  RunConfig run = job.run;
  std::optional<Dataset> train, valid;
  std::optional<Tokenizer> tokenizer;
  if (has_dataset(run.data.train)) {
    train.emplace(run.data.train);
    tokenizer.emplace(Tokenizer::load(train->folder()));
  }
  if (has_dataset(run.data.valid)) valid.emplace(run.data.valid);
  const RunFacts facts =
      facts_of(run, train ? &*train : nullptr, valid ? &*valid : nullptr, tokenizer ? &*tokenizer : nullptr);
  if (run.chooses_microbatch()) settle(run, choose_microbatch(run, facts, place));
  const MemoryPlan plan = plan_run(run, facts, place).step;
  const ParameterCounts counts(run.model);
  const auto length = static_cast<double>(run.data.sequence_length);
  SystemPlan result{.system = job.system,
                    .total_params = counts.paper_total(),
                    .activated_params = counts.paper_activated(),
                    .flops_per_token = exact_flops(run.model, run.data.sequence_length) / length,
                    .steps = run.schedule.steps,
                    .memory_bytes = plan.total(),
                    .left_out = job.left_out};
  try {
    refuse_if_too_large(run, facts, plan_run(run, facts, place), place);
  } catch (const Error&) {
    result.fits = false;
  }
  const auto measured = study.seconds_per_step.find(job.system);
  const double step = measured != study.seconds_per_step.end()
                          ? measured->second
                          : estimated_step_seconds(run, plan, product_rate(run.step.dtype));
  result.seconds = step * static_cast<double>(result.steps);
  return result;
}

/// The value, marked where it is not the baseline's.
std::string matched(const std::string& text, double value, double baseline) {
  const bool differs = std::abs(value - baseline) > kMatched * std::abs(baseline);
  return differs ? fmt::format("{} ({:+.1f}%) *", text, 100 * (value / baseline - 1)) : text;
}

std::string left_out_text(const std::vector<SystemPlan>& plans) {
  std::string text;
  for (const SystemPlan& plan : plans) {
    for (const std::string& one : plan.left_out) text += fmt::format("{} does not take {}\n", plan.system, one);
  }
  return text.empty() ? "" : "\n" + text;
}

}  // namespace

std::vector<SystemPlan> plan_systems(const Study& study, const Place& place,
                                     const std::function<double(DType)>& product_rate) {
  std::vector<SystemPlan> plans;
  std::set<std::string> planned;
  for (const StudyJob& job : study.jobs) {
    if (planned.insert(job.system).second) plans.push_back(plan_of(study, job, place, product_rate));
  }
  return plans;
}

std::string plan_table(const Study& study, const std::vector<SystemPlan>& plans) {
  if (plans.empty()) return "";
  const auto found =
      std::find_if(plans.begin(), plans.end(), [&](const SystemPlan& plan) { return plan.system == study.baseline; });
  const SystemPlan& base = found == plans.end() ? plans.front() : *found;
  std::string text =
      "| system | parameters | activated | FLOPs a token | steps | hours | memory, GiB "
      "|\n|---|---|---|---|---|---|---|\n";
  double seconds = 0;
  for (const SystemPlan& plan : plans) {
    const auto millions = [](int64_t count) { return fmt::format("{:.2f}M", 1e-6 * static_cast<double>(count)); };
    const auto real = [](int64_t count) { return static_cast<double>(count); };
    text += fmt::format(
        "| {} | {} | {} | {} | {} | {:.3g} | {:.2f}{} |\n", plan.system,
        matched(millions(plan.total_params), real(plan.total_params), real(base.total_params)),
        matched(millions(plan.activated_params), real(plan.activated_params), real(base.activated_params)),
        matched(fmt::format("{:.2f}M", 1e-6 * plan.flops_per_token), plan.flops_per_token, base.flops_per_token),
        plan.steps, plan.seconds / 3600, real(plan.memory_bytes) / (1 << 30), plan.fits ? "" : " (does not fit)");
    seconds += plan.seconds *
               static_cast<double>(std::count_if(study.jobs.begin(), study.jobs.end(),
                                                 [&](const StudyJob& job) { return job.system == plan.system; }));
  }
  text += fmt::format(
      "\n\\* differs from {} by more than {:.0f}%. FLOPs are those of training with causal attention. Hours are of one "
      "seed, {}; without evaluations. All {} jobs: {:.3g} hours.\n",
      base.system, 100 * kMatched,
      study.budget == Budget::seconds ? "by measured rates where dir/rates.json has them, else estimated"
                                      : "estimated from the speed of one matrix product",
      study.jobs.size(), seconds / 3600);
  return text + left_out_text(plans);
}

}  // namespace moe
