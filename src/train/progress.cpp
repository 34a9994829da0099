#include "train/progress.h"

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"

namespace moe {
namespace {

constexpr double kLineSeconds = 10;
constexpr size_t kLogWidth = 160;

// Three digits and a unit: a rate of any size has at most five characters.
std::string short_number(double value) {
  for (const auto& [unit, letter] : {std::pair{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}) {
    if (value < unit) continue;
    const double scaled = value / unit;
    return scaled < 9.95 ? fmt::format("{:.1f}{}", scaled, letter) : fmt::format("{:.0f}{}", scaled, letter);
  }
  return fmt::format("{:.0f}", value);
}

std::string norm_text(double norm) {
  return norm >= 1000 || (norm < 0.01 && norm > 0) ? fmt::format("{:.0e}", norm) : fmt::format("{:.2f}", norm);
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  return fmt::format("{}", fmt::join(parts, between));
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e12) + 0.5);
  if (whole >= 100 * 86400) return fmt::format("{}d", whole / 86400);
  if (whole >= 86400) return fmt::format("{}d {:02}h", whole / 86400, whole / 3600 % 24);
  if (whole >= 3600) return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}

std::string progress_text(const Progress& p, size_t width) {
  const std::string step = fmt::format("{:>{}}/{}", p.step, std::to_string(p.steps).size(), p.steps);
  const std::string loss = fmt::format("loss {:.3f}", p.loss), norm = "norm " + norm_text(p.gradient_norm);
  const std::string rate = short_number(p.tokens_per_second), left = duration_text(p.seconds_left);
  std::vector<std::string> parts{"step " + step,     loss,          norm, fmt::format("lr {:.1e}", p.learning_rate),
                                 rate + " tokens/s", left + " left"};
  if (p.worst_load > 0) parts.push_back(fmt::format("load max/mean {:.2f}", p.worst_load));
  if (p.dropped > 0) parts.push_back(fmt::format("{:.1f}% dropped", 100 * p.dropped));
  for (; parts.size() >= 6; parts.pop_back()) {
    if (const std::string text = joined(parts, " | "); text.size() <= width) return text;
  }
  parts = {step, loss, norm, fmt::format("lr {:.0e}", p.learning_rate), rate + " tok/s", left + " left"};
  if (const std::string text = joined(parts, " "); text.size() <= width) return text;
  parts = {step, loss, norm, parts[3], rate + "/s", left};
  if (const std::string text = joined(parts, " "); text.size() <= width) return text;
  return joined({step, loss, norm, rate + "/s", left}, " ");
}

ProgressLine::ProgressLine(int64_t first_step, int64_t steps)
    : first_step_(first_step), steps_(steps), started_(steady_seconds()), last_line_(started_), latest_(started_) {}

double ProgressLine::seconds_per_step() const {
  return (latest_ - started_) / static_cast<double>(std::max<int64_t>(shown_, 1));
}

void ProgressLine::show(const StepLine& line, double worst_load) {
  latest_ = steady_seconds();
  shown_ = line.step - first_step_ + 1;
  const double loss = line.report.loss;
  smoothed_loss_ = shown_ == 1 ? loss : 0.9 * smoothed_loss_ + 0.1 * loss;
  const Progress progress{.step = line.step,
                          .steps = steps_,
                          .loss = smoothed_loss_,
                          .gradient_norm = line.report.gradient_norm,
                          .learning_rate = line.learning_rate,
                          .tokens_per_second = static_cast<double>(line.tokens) / line.seconds,
                          .seconds_left = seconds_per_step() * static_cast<double>(steps_ - line.step),
                          .worst_load = worst_load,
                          .dropped = dropped_share(line.report)};
  if (stderr_is_terminal()) {
    show_status(progress_text(progress, terminal_width() - 1));
  } else if (latest_ - last_line_ >= kLineSeconds || line.step == steps_) {
    last_line_ = latest_;
    log_info("{}", progress_text(progress, kLogWidth));
  }
}

}  // namespace moe
