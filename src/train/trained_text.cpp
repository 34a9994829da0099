#include "train/trained_text.h"

#include <vector>

#include "train/freeze.h"

namespace moe {
namespace {

struct Line {
  std::string kind, types;
  int64_t all = 0, trained = 0;
};

std::string types_of(const Parameter& parameter, const StepConfig& step) {
  const char* const stored = name(step.storage(parameter));
  return parameter.trained() && needs_master(step.dtype) ? fmt::format("{}, updated in f32", stored) : stored;
}

std::vector<Line> lines_of(const std::vector<Parameter>& table, const StepConfig& step) {
  std::vector<Line> lines;
  for (const Parameter& parameter : table) {
    const bool adapter = parameter.adapter != AdapterPart::none;
    const std::string kind = fmt::format("{}{}", adapter ? "adapters of " : "", name(parameter.kind));
    size_t at = 0;
    while (at < lines.size() && lines[at].kind != kind) ++at;
    if (at == lines.size()) lines.push_back({.kind = kind, .types = {}});
    Line& line = lines[at];
    const int64_t elements = parameter.shape.elements();
    line.all += elements;
    line.trained += parameter.trained() ? parameter.trained_shape().elements() : 0;
    if (line.types.empty() || parameter.trained()) line.types = types_of(parameter, step);
  }
  return lines;
}

}  // namespace

bool has_trained_text(const RunConfig& run) {
  return !run.from.empty() || frozen_elements(training_table(run.model, run.step)) > 0;
}

std::string trained_text(const RunConfig& run, const std::string& device) {
  constexpr const char* kRow = "{:<28} {:>16} {:>16}  {:<22} {}\n";
  std::string text = fmt::format(kRow, "parameters", "in all", "trained", "type", "device");
  int64_t all = 0, trained = 0;
  for (const Line& line : lines_of(training_table(run.model, run.step), run.step)) {
    text += fmt::format(kRow, line.kind, line.all, line.trained, line.types, device);
    all += line.all;
    trained += line.trained;
  }
  const double share = 100 * static_cast<double>(trained) / static_cast<double>(all);
  return text + fmt::format("{:<28} {:>16} {:>16}  {:.3g}% of all\n", "sum", all, trained, share);
}

}  // namespace moe
