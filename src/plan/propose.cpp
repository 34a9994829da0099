#include "plan/propose.h"

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "train/amounts.h"

namespace moe {
namespace {

constexpr int64_t kMostTokens = int64_t{64} << 10;  // as for one GPU (train/settle.cpp)

/// Powers of two of rows, up to the most tokens that a microbatch usefully has.
std::vector<int64_t> rows_to_try(const LayoutRun& run, const Layout& layout, const LayoutChoices& choices) {
  if (choices.rows) return {*choices.rows};
  std::vector<int64_t> rows;
  for (int64_t count = 1; count == 1 || count * run.step.sequence_length <= kMostTokens; count *= 2) {
    if (divides_step(run, layout, count)) rows.push_back(count);
  }
  return rows;
}

/// The better of two plans of one layout.
bool better(const LayoutPlan& a, const LayoutPlan& b) {
  if (a.fits != b.fits) return a.fits;
  if (!a.fits) return a.largest().total() < b.largest().total();
  return a.time.total() < b.time.total();
}

std::optional<LayoutPlan> best_of(LayoutPlanner& planner, const Layout& layout, const LayoutChoices& choices) {
  std::optional<LayoutPlan> best;
  for (const int64_t rows : rows_to_try(planner.run(), layout, choices)) {
    if (!divides_step(planner.run(), layout, rows)) continue;
    for (const bool recompute : {false, true}) {
      if (choices.recompute && *choices.recompute != recompute) continue;
      LayoutPlan plan = planner.plan(layout, rows, recompute);
      if (!best || better(plan, *best)) best = std::move(plan);
    }
  }
  return best;
}

std::string share(double part, double all) { return fmt::format("{:.0f}%", 100 * part / all); }

}  // namespace

std::vector<LayoutPlan> plan_layouts(LayoutPlanner& planner, int64_t ranks, const LayoutChoices& choices) {
  const LayoutRun& run = planner.run();
  if (choices.layout) check_layout(run.model, *choices.layout, ranks);
  const std::vector<Layout> layouts =
      choices.layout ? std::vector<Layout>{*choices.layout} : layouts_of(run.model, ranks, kMostExpertRanks);
  std::vector<LayoutPlan> plans;
  for (const Layout& layout : layouts) {
    if (auto plan = best_of(planner, layout, choices)) plans.push_back(std::move(*plan));
  }
  if (plans.empty()) {
    const int64_t rows = choices.rows.value_or(1);
    const int64_t stage = layouts.empty() ? ranks : layouts.front().stage_ranks();
    fail_usage("a step has {}, expected a multiple of {}: {} with whole microbatches of {}; give another --step-rows",
               counted(run.rows_per_step, "row"), stage * rows, counted(stage, "rank"), counted(rows, "row"));
  }
  std::stable_sort(plans.begin(), plans.end(), better);
  return plans;
}

std::string reason(const LayoutRun& run, const std::vector<LayoutPlan>& plans) {
  const LayoutPlan& first = plans.front();
  const auto bytes = [](double amount) { return bytes_text(static_cast<int64_t>(amount)); };
  if (!first.fits) {
    return fmt::format("no layout fits: {} needs least, {} of the {} of a card; use more ranks or larger cards",
                       text_of(first.layout), bytes(first.largest().total()), bytes(run.card.memory));
  }
  const auto fitting = std::count_if(plans.begin(), plans.end(), [](const LayoutPlan& plan) { return plan.fits; });
  const StepSeconds& time = first.time;
  std::string text = fmt::format(
      "{} is predicted to be fastest of {} that fit: communication {} and bubble {} of a step", text_of(first.layout),
      fitting, share(time.communication, time.total()), share(time.bubble, time.total()));
  if (fitting == 1) return text + fmt::format("; the other {} need more memory than a card has", plans.size() - 1);
  const LayoutPlan& second = plans[1];
  return text + fmt::format("; {}, the next, has {} and {}, and takes {} more time", text_of(second.layout),
                            share(second.time.communication, second.time.total()),
                            share(second.time.bubble, second.time.total()),
                            share(second.time.total() - time.total(), time.total()));
}

}  // namespace moe
