#include "cli/generate_lines.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/output.h"
#include "base/units.h"
#include "infer/engine.h"
#include "train/amounts.h"

namespace moe {
namespace {

/// More at once save little time for each.
constexpr int64_t kMostSequences = 64;

/// Sizes whose memory the device has.
EngineSizes fitting_sizes(const ModelOnDevice& runtime, const std::vector<Request>& requests, int64_t tokens_per_pass,
                          int64_t free) {
  const ModelConfig& config = runtime.model.config();
  for (int64_t sequences = kMostSequences;; sequences /= 2) {
    const EngineSizes sizes = engine_sizes(config, requests, sequences, tokens_per_pass, runtime.device.records());
    const int64_t bytes = most_bytes_of_ranks(
        runtime.model.held(), [&](const HeldModel& held) { return Engine::bytes(held, runtime.types(), sizes); });
    if (free < 0 || bytes <= free) return sizes;
    if (sequences > 1) continue;
    fail(
        "the largest request needs {} for its cache and its pass, and {} are free; shorten the prompt or allow fewer "
        "new tokens",
        bytes_text(bytes), bytes_text(free));
  }
}

/// The answers that have ended, in the order of their requests.
class InOrder {
 public:
  InOrder(const Tokenizer& tokenizer, const std::vector<LineRequest>& lines, const LineDefaults& defaults)
      : tokenizer_(tokenizer), lines_(lines), defaults_(defaults), answers_(lines.size()) {}

  void add(const Event& event) { answers_[static_cast<size_t>(event.request)].add(event); }
  void print() {
    for (; printed_ < answers_.size() && answers_[printed_].ended(); ++printed_) {
      clear_status();
      print_text(answers_[printed_].text(lines_[printed_], defaults_, tokenizer_) + "\n");
      flush_output();
      failed_ += answers_[printed_].failed();
      answers_[printed_] = {};
    }
  }
  size_t printed() const { return printed_; }
  int64_t failed() const { return failed_; }

 private:
  const Tokenizer& tokenizer_;
  const std::vector<LineRequest>& lines_;
  const LineDefaults& defaults_;
  std::vector<LineAnswer> answers_;
  size_t printed_ = 0;
  int64_t failed_ = 0;
};

}  // namespace

int64_t answer_lines(const ModelOnDevice& runtime, const Tokenizer& tokenizer, const std::vector<LineRequest>& lines,
                     const LineDefaults& defaults, int64_t free, bool quiet) {
  std::vector<Request> requests;
  for (const LineRequest& line : lines) requests.push_back(line.request);
  Engine engine(runtime, &tokenizer, fitting_sizes(runtime, requests, defaults.options.tokens_per_pass, free));
  for (const Request& request : requests) engine.admit(request);  // the engine counts them from 0
  InOrder answers(tokenizer, lines, defaults);
  const double started = steady_seconds();
  int64_t new_tokens = 0;
  while (!engine.idle()) {
    for (const Event& event : engine.step()) {
      new_tokens += event.id.has_value();
      answers.add(event);
    }
    answers.print();
    if (quiet) continue;
    const double seconds = steady_seconds() - started;
    show_status(fmt::format("{} of {} answered, {:.1f} new tokens/s", answers.printed(),
                            counted(lines.size(), "request"),
                            seconds > 0 ? static_cast<double>(new_tokens) / seconds : 0.0));
  }
  clear_status();
  if (!quiet) {
    const EngineCounts counts = engine.counts();
    log_info("{}: {} of prompts computed, {} found in the cache, {} new, in {:.1f} s", counted(lines.size(), "request"),
             counted(counts.prompt_tokens, "token"), counts.reused_tokens, new_tokens, steady_seconds() - started);
  }
  return answers.failed();
}

}  // namespace moe
