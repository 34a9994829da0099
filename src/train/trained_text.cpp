#include "train/trained_text.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "base/words.h"
#include "checkpoint/hf_names.h"
#include "train/freeze.h"

namespace moe {
namespace {

struct Line {
  std::string kind;
  std::vector<std::string> types = {};  ///< of what trains, if anything does
  int64_t all = 0, trained = 0;
};

std::string types_of(const Parameter& parameter, const StepConfig& step) {
  const char* const stored = name(step.storage(parameter));
  return parameter.trained() && needs_master(step.dtype) ? fmt::format("{}, updated in f32", stored) : stored;
}

void add(const std::string& word, std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
}

std::vector<Line> lines_of(const std::vector<Parameter>& table, const StepConfig& step) {
  std::vector<Line> lines;
  for (const Parameter& parameter : table) {
    const bool adapter = parameter.adapter != AdapterPart::none;
    const std::string kind = fmt::format("{}{}", adapter ? "adapters of " : "", name(parameter.kind));
    size_t at = 0;
    while (at < lines.size() && lines[at].kind != kind) ++at;
    if (at == lines.size()) lines.push_back({.kind = kind});
    Line& line = lines[at];
    if (parameter.trained() && line.trained == 0) line.types.clear();
    if (parameter.trained() || line.trained == 0) add(types_of(parameter, step), line.types);
    line.all += parameter.shape.elements();
    line.trained += parameter.trained() ? parameter.trained_shape().elements() : 0;
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
    text +=
        fmt::format(kRow, line.kind, line.all, line.trained, fmt::format("{}", fmt::join(line.types, ", ")), device);
    all += line.all;
    trained += line.trained;
  }
  const double share = 100 * static_cast<double>(trained) / static_cast<double>(all);
  return text + fmt::format("{:<28} {:>16} {:>16}  {:.3g}% of all\n", "sum", all, trained, share);
}

std::string base_types_warning(const RunConfig& run) {
  const std::vector<Parameter> table = training_table(run.model, run.step);
  StepConfig plain = run.step;
  plain.lora.base.reset();
  std::map<std::string, int64_t> others;  // by type
  std::set<int64_t> widths;
  int64_t all = 0;
  for (const HfTensor& tensor : hf_tensors(run.model, table)) {
    const Parameter& parameter = table[tensor.parameter];
    const DType type = run.step.storage(parameter);
    if (parameter.type != ParameterType::weight || type == plain.storage(parameter)) continue;
    ++all;
    if (type == *run.step.lora.base) continue;
    ++others[name(type)];
    widths.insert(tensor.shape.back());
  }
  if (others.empty()) return "";
  std::vector<std::string> counts, numbers;
  for (const auto& [type, count] : others) {
    counts.push_back(fmt::format("{}{} get {}", count, counts.empty() ? fmt::format(" of {} tensors", all) : "", type));
  }
  for (const int64_t width : widths) numbers.push_back(std::to_string(width));
  return fmt::format("lora.base = {}: {} instead, because their rows (of {} numbers) are not whole blocks of {}",
                     name(*run.step.lora.base), fmt::join(counts, " and "), alternatives(numbers),
                     storage(*run.step.lora.base).block);
}

}  // namespace moe
