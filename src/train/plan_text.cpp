#include "train/plan_text.h"

#include <algorithm>

#include "base/units.h"
#include "model/cost.h"
#include "train/amounts.h"
#include "train/freeze.h"

namespace moe {
namespace {

constexpr size_t kTermsShown = 8;

struct Term {
  std::string name;
  int64_t bytes = 0;
  int64_t buffers = 0;
};

// Buffers with the same name (one per layer) as one term, the largest first.
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

// The memory of a run besides its steps: on the device, on the host, or both.
std::vector<Term> terms_beside(const RunMemory& memory, bool device, bool host) {
  std::vector<Term> terms;
  const auto add = [&](const char* name, int64_t bytes) { terms.push_back({name, bytes}); };
  if (device) {
    add("workspace", memory.workspace);
    add("evaluation", memory.evaluation);
    add("samples", memory.samples);
  }
  if (host) {
    add("the program", memory.process);
    add("tables of rows", memory.tables);
    add("batches", memory.batches);
    if (memory.next_step > 0) add("the next step's batches", memory.next_step);
    add("a checkpoint's copy", memory.saving);
  }
  return terms;
}

std::string parameter_lines(const ModelConfig& config, const StepConfig& step) {
  const ParameterCounts counts(config);
  std::string text = fmt::format("{:<28} {:>18} {:>18}\n", "parameters", "stored", "used per token");
  for (const ParameterKind kind : kParameterKinds) {
    if (counts.stored(kind) == 0) continue;
    text += fmt::format("  {:<26} {:>18} {:>18}\n", name(kind), counts.stored(kind), counts.activated(kind));
  }
  text += fmt::format("  {:<26} {:>18} {:>18}\n", "all", counts.stored(), counts.activated());
  const auto table = training_table(config, step);
  if (const int64_t frozen = frozen_elements(table); frozen > 0) {
    text += fmt::format("  {:<26} {:>18}\n", "frozen", frozen);
    text += fmt::format("  {:<26} {:>18}\n", "trained", trained_elements(table));
  }
  text += fmt::format("  {:<26} {:>18} {:>18}\n", "the paper's (no routers)", count_text(counts.paper_total()),
                      count_text(counts.paper_activated()));
  return text;
}

std::string compute_lines(const ModelConfig& config, const StepConfig& step, int64_t optimizer_flops) {
  const int64_t length = step.sequence_length;
  const double sequences = static_cast<double>(step.microbatches) * static_cast<double>(step.microbatch_tokens) /
                           static_cast<double>(length);
  const double exact = sequences * exact_flops(config, length);
  const double paper = sequences * paper_flops(config, length);
  std::string text = fmt::format("a step: {} of {} in {}\n", counted(sequences, "sequence"), counted(length, "token"),
                                 counted(step.microbatches, "microbatch", "microbatches"));
  text += fmt::format("  {:<26} {:>18}\n", "exact products", flops_text(exact));
  text += fmt::format("  {:<26} {:>18}\n", "the paper's convention", flops_text(paper));
  if (step.recompute) {  // the forward pass of every layer once more, without the head
    const double head = 2 * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
    const double again = sequences * (exact_flops(config, length) / 3 - head * static_cast<double>(length));
    text += fmt::format("  {:<26} {:>18}\n", "with recomputation", flops_text(exact + again));
  }
  if (optimizer_flops > 0)
    text += fmt::format("  {:<26} {:>18}\n", "the optimiser", flops_text(static_cast<double>(optimizer_flops)));
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

}  // namespace

std::string plan_text(const ModelConfig& config, const StepConfig& step, const MemoryPlan& plan) {
  std::string text = parameter_lines(config, step) + compute_lines(config, step, plan.optimizer_flops);
  text += fmt::format("{:<28} {:>18}\n", "memory", name(step.dtype));
  for (const Term& term : classes_of(plan)) text += fmt::format("  {:<26} {:>18}\n", term.name, gib_text(term.bytes));
  text += fmt::format("  {:<26} {:>18}\n", "peak", gib_text(plan.total()));
  if (plan.saved_in_gradients > 0) {
    text += fmt::format("  and {} of saved activations in the gradients' memory\n", gib_text(plan.saved_in_gradients));
  }
  return text + peak_lines("saved activations", plan.saved_at_peak) + peak_lines("scratch", plan.scratch_at_peak);
}

std::vector<std::pair<std::string, int64_t>> memory_parts(const RunMemory& memory, bool device, bool host) {
  std::vector<std::pair<std::string, int64_t>> parts;
  if (device) {
    for (const Term& term : classes_of(memory.step)) parts.emplace_back(term.name, term.bytes);
  }
  for (const Term& term : terms_beside(memory, device, host)) parts.emplace_back(term.name, term.bytes);
  return parts;
}

std::string run_memory_text(const RunMemory& memory) {
  const auto lines = [&](const char* title, bool device, bool host, int64_t total) {
    std::vector<Term> terms = terms_beside(memory, device, host);
    if (device) terms.insert(terms.begin(), Term{"the steps", memory.step.total()});
    std::string text = fmt::format("{}\n", title);
    for (const Term& term : terms) {
      if (term.bytes > 0) text += fmt::format("  {:<26} {:>18}\n", term.name, mib_text(term.bytes));
    }
    return text + fmt::format("  {:<26} {:>18}\n", "at the peak", mib_text(total));
  };
  if (memory.device_is_host) {
    return lines("the whole run (samples, batches and copy come one after another)", true, true, memory.host_total());
  }
  return lines("the whole run on the GPU", true, false, memory.device_total()) +
         lines("the whole run on the host (batches and copy come one after another)", false, true, memory.host_total());
}

}  // namespace moe
