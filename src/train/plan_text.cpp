#include "train/plan_text.h"

#include <algorithm>
#include <optional>

#include "model/cost.h"
#include "train/amounts.h"

namespace moe {
namespace {

constexpr size_t kTermsShown = 8;

struct Term {
  std::string name;
  int64_t bytes = 0;
  int64_t buffers = 0;
};

// Buffers of the same name (one per layer) as one term, the largest first.
std::vector<Term> terms_of(const std::vector<Arena::Buffer>& buffers) {
  std::map<std::string, Term> by_name;
  for (const Arena::Buffer& buffer : buffers) {
    Term& term = by_name[buffer.name];
    term.name = buffer.name;
    term.bytes += static_cast<int64_t>(buffer.bytes);
    ++term.buffers;
  }
  std::vector<Term> terms;
  for (auto& [name, term] : by_name) terms.push_back(std::move(term));
  std::stable_sort(terms.begin(), terms.end(), [](const Term& a, const Term& b) { return a.bytes > b.bytes; });
  return terms;
}

std::vector<Term> classes_of(const MemoryPlan& plan) {
  return {{"parameters", plan.parameters},           {"gradients", plan.gradients},
          {"optimizer state", plan.optimizer},       {"batch", plan.batch},
          {"saved activations", plan.saved_alone()}, {"scratch", plan.scratch}};
}

std::string parameter_lines(const ModelConfig& config) {
  const ParameterCounts counts(config);
  std::string text = fmt::format("{:<28} {:>18} {:>18}\n", "parameters", "stored", "used per token");
  for (const ParameterKind kind : kParameterKinds) {
    if (counts.stored(kind) == 0) continue;
    text += fmt::format("  {:<26} {:>18} {:>18}\n", name(kind), counts.stored(kind), counts.activated(kind));
  }
  text += fmt::format("  {:<26} {:>18} {:>18}\n", "all", counts.stored(), counts.activated());
  text += fmt::format("  {:<26} {:>18} {:>18}\n", "the paper's (no routers)", count_text(counts.paper_total()),
                      count_text(counts.paper_activated()));
  return text;
}

std::string compute_lines(const ModelConfig& config, const StepConfig& step) {
  const int64_t length = step.sequence_length;
  const double sequences = static_cast<double>(step.microbatches) * static_cast<double>(step.microbatch_tokens) /
                           static_cast<double>(length);
  const double exact = sequences * exact_flops(config, length);
  const double paper = sequences * paper_flops(config, length);
  std::string text = fmt::format("a step: {} sequences of {} tokens in {} microbatch{}\n", sequences, length,
                                 step.microbatches, step.microbatches == 1 ? "" : "es");
  text += fmt::format("  {:<26} {:>18}\n", "exact products", flops_text(exact));
  text += fmt::format("  {:<26} {:>18}\n", "the paper's convention", flops_text(paper));
  if (step.recompute) {  // every layer's forward once more, not the head's
    const double head = 2 * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
    const double again = sequences * (exact_flops(config, length) / 3 - head * static_cast<double>(length));
    text += fmt::format("  {:<26} {:>18}\n", "with recomputation", flops_text(exact + again));
  }
  return text;
}

std::string peak_lines(const char* title, const std::vector<Arena::Buffer>& buffers) {
  const std::vector<Term> terms = terms_of(buffers);
  std::string text = fmt::format("at the peak of {}\n", title);
  int64_t rest = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    if (i >= kTermsShown) {
      rest += terms[i].bytes;
      continue;
    }
    const std::string times = terms[i].buffers > 1 ? fmt::format(" x {}", terms[i].buffers) : "";
    text += fmt::format("  {:<26} {:>18}\n", terms[i].name + times, gib_text(terms[i].bytes));
  }
  if (rest > 0)
    text += fmt::format("  {:<26} {:>18}\n", fmt::format("{} others", terms.size() - kTermsShown), gib_text(rest));
  return text;
}

// The most rows per microbatch, fewer than the step's own and dividing its rows, whose plan fits.
std::optional<int64_t> rows_that_fit(const ModelConfig& config, StepConfig step, bool recompute, int64_t available) {
  const int64_t rows_now = step.microbatch_tokens / step.sequence_length;
  const int64_t rows_of_step = rows_now * step.microbatches;
  step.recompute = recompute;
  std::vector<int64_t> divisors;
  for (int64_t rows = 1; rows <= rows_now; ++rows) {
    if (rows_of_step % rows == 0) divisors.push_back(rows);
  }
  const auto fits = [&](int64_t rows) {
    step.microbatch_tokens = rows * step.sequence_length;
    step.microbatches = rows_of_step / rows;
    return plan_training(config, step).total() <= available;
  };
  // A single microbatch shares memory that others cannot, so that it may fit where fewer rows do not.
  if (fits(divisors.back())) return divisors.back();
  const auto too_large = std::partition_point(divisors.begin(), divisors.end() - 1, fits);
  return too_large == divisors.begin() ? std::nullopt : std::optional(*(too_large - 1));
}

std::string advice(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan, int64_t available,
                   const PlanKeys& keys) {
  const int64_t fixed = plan.parameters + plan.gradients + plan.optimizer;
  if (fixed > available) {
    return fmt::format(
        "no microbatch is small enough, since parameters, gradients and optimizer state alone take {}; "
        "use a smaller model or more memory",
        gib_text(fixed));
  }
  std::vector<std::string> choices;
  if (const auto rows = rows_that_fit(config, step, step.recompute, available)) {
    choices.push_back(fmt::format("{} = {}", keys.rows, *rows));
  }
  if (!step.recompute) {
    if (const auto rows = rows_that_fit(config, step, true, available)) {
      choices.push_back(fmt::format("{} = true with {} = {}", keys.recompute, keys.rows, *rows));
    }
  }
  if (!choices.empty()) return fmt::format("what fits is {}", fmt::join(choices, ", or "));
  return "not even a microbatch of one row fits, with recompute; use shorter sequences, a smaller model or more memory";
}

}  // namespace

std::string plan_text(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan) {
  std::string text = parameter_lines(config) + compute_lines(config, step);
  text += fmt::format("{:<28} {:>18}\n", "memory", name(step.dtype));
  for (const Term& term : classes_of(plan)) text += fmt::format("  {:<26} {:>18}\n", term.name, gib_text(term.bytes));
  text += fmt::format("  {:<26} {:>18}\n", "peak", gib_text(plan.total()));
  if (plan.saved_in_gradients > 0) {
    text += fmt::format("  and {} of saved activations in the gradients' memory\n", gib_text(plan.saved_in_gradients));
  }
  return text + peak_lines("saved activations", plan.saved_at_peak) + peak_lines("scratch", plan.scratch_at_peak);
}

void refuse_if_too_large(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan,
                         int64_t available_bytes, const PlanKeys& keys) {
  if (plan.total() <= available_bytes) return;
  const std::vector<Term> classes = classes_of(plan);
  const auto largest =
      std::max_element(classes.begin(), classes.end(), [](const Term& a, const Term& b) { return a.bytes < b.bytes; });
  fail("training needs {} ({} bytes), most of it {} ({}), but {} ({} bytes) are available; {}", gib_text(plan.total()),
       plan.total(), largest->name, gib_text(largest->bytes), gib_text(available_bytes), available_bytes,
       advice(config, step, plan, available_bytes, keys));
}

void refuse_too_many_slots(const ModelConfig& config, int64_t rows, int64_t sequence_length, int64_t most,
                           const std::string& rows_key) {
  if (most == 0 || config.moe_layers() == 0) return;
  const int64_t per_row = sequence_length * config.decoder().moe.router.slots();
  if (rows * per_row <= most) return;
  const std::string fits = per_row <= most ? fmt::format("use {} = {} or less", rows_key, most / per_row)
                                           : "not even one row fits; use shorter sequences or fewer experts";
  fail("{} = {} rows of {} tokens have {} choices of experts, but the device has room to sort {}; {}", rows_key, rows,
       sequence_length, rows * per_row, most, fits);
}

}  // namespace moe
