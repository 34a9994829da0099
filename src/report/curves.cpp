#include "report/curves.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/median.h"

namespace moe {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct StepPoint {
  int64_t step = 0;
  double tokens = 0, seconds = 0;  // so far
  double loss = kNone, gradient_norm = kNone, learning_rate = kNone, tokens_per_second = kNone, worst_load = kNone;
};

/// The tokens of every expert, by layer, at one step.
struct StepCounts {
  int64_t step = 0;
  std::vector<std::vector<double>> layers = {};
};

double number_or_none(const Json& line, std::string_view key, const std::string& where) {
  const Json* value = json_find(line, key, where);
  return value != nullptr && value->is_number() ? value->get<double>() : kNone;
}

Json finite_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(); }

class Reader {
 public:
  explicit Reader(const fs::path& file) : where_(file.string()) {}

  void read(std::string_view text);

  Json about;
  std::vector<StepPoint> points;
  std::vector<StepCounts> counts;
  std::vector<int64_t> layer_numbers;
  int64_t peak_bytes = 0;

 private:
  void add_step(const Json& line, const std::string& where);
  void add_counts(const Json& layers, int64_t step, StepPoint& point, const std::string& where);

  std::string where_;
  double tokens_ = 0, seconds_ = 0;
};

void Reader::read(std::string_view text) {
  int64_t number = 0;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string_view::npos; begin = end + 1) {
    const std::string where = fmt::format("{}, line {}", where_, ++number);
    const Json line = parse_json(text.substr(begin, end - begin), where);
    if (const Json* run = json_find(line, "run", where)) {
      about = *run;
    } else {
      add_step(line, where);
    }
  }
}

void Reader::add_step(const Json& line, const std::string& where) {
  StepPoint point{.step = json_int(line, "step", where)};
  point.loss = number_or_none(line, "loss", where);
  point.gradient_norm = number_or_none(line, "gradient_norm", where);
  point.learning_rate = number_or_none(line, "learning_rate", where);
  point.tokens_per_second = number_or_none(line, "tokens_per_second", where);
  const double tokens = json_number(line, "tokens", where, 0);
  tokens_ += tokens;
  if (point.tokens_per_second > 0) seconds_ += tokens / point.tokens_per_second;
  point.tokens = tokens_;
  point.seconds = seconds_;
  peak_bytes = std::max(peak_bytes, json_int(line, "peak_bytes", where, 0));
  if (const Json* layers = json_find(line, "layers", where)) add_counts(*layers, point.step, point, where);
  points.push_back(point);
}

void Reader::add_counts(const Json& layers, int64_t step, StepPoint& point, const std::string& where) {
  StepCounts found{.step = step};
  std::vector<int64_t> numbers;
  for (const Json& layer : layers) {
    point.worst_load = std::fmax(point.worst_load, number_or_none(layer, "max_over_mean_load", where));
    const Json* list = json_find(layer, "counts", where);
    if (list == nullptr) continue;
    numbers.push_back(json_int(layer, "layer", where));
    found.layers.push_back(list->get<std::vector<double>>());
  }
  if (found.layers.empty()) return;
  if (!counts.empty() && numbers != layer_numbers) {
    fail("{} counts the experts of layers {}, and lines before it those of layers {}; the file mixes runs", where,
         fmt::join(numbers, ", "), fmt::join(layer_numbers, ", "));
  }
  layer_numbers = numbers;
  counts.push_back(std::move(found));
}

/// Means of equal parts of the steps.
class Thinned {
 public:
  Thinned(const std::vector<StepPoint>& points, size_t most, double step_flops)
      : points_(points), parts_(std::min(points.size(), most)), step_flops_(step_flops) {}

  Json columns() const {
    Json json = Json::object();
    for (const char* name : {"step", "tokens", "seconds", "flops", "loss", "low", "high", "gradient_norm",
                             "learning_rate", "tokens_per_second", "worst_load"}) {
      json[name] = Json::array();
    }
    for (size_t part = 0; part < parts_; ++part) {
      const auto steps = std::span(points_).subspan(begin(part), begin(part + 1) - begin(part));
      const StepPoint& last = steps.back();
      json["step"].push_back(last.step);
      json["tokens"].push_back(last.tokens);
      json["seconds"].push_back(last.seconds);
      json["flops"].push_back(step_flops_ > 0 ? Json(step_flops_ * static_cast<double>(last.step)) : Json());
      add(json, "loss", steps, &StepPoint::loss);
      add(json, "gradient_norm", steps, &StepPoint::gradient_norm);
      add(json, "learning_rate", steps, &StepPoint::learning_rate);
      add(json, "tokens_per_second", steps, &StepPoint::tokens_per_second);
      add(json, "worst_load", steps, &StepPoint::worst_load);
      double low = kNone, high = kNone;
      for (const StepPoint& step : steps) {
        low = std::fmin(low, step.loss);
        high = std::fmax(high, step.loss);
      }
      json["low"].push_back(finite_or_null(low));
      json["high"].push_back(finite_or_null(high));
    }
    return json;
  }

 private:
  size_t begin(size_t part) const { return part * points_.size() / parts_; }

  static void add(Json& json, const char* name, std::span<const StepPoint> steps, double StepPoint::*value) {
    double sum = 0;
    for (const StepPoint& step : steps) sum += step.*value;
    json[name].push_back(finite_or_null(sum / static_cast<double>(steps.size())));
  }

  const std::vector<StepPoint>& points_;
  size_t parts_;
  double step_flops_;
};

/// The sum of counts [begin, end) of one layer, as multiples of its mean.
std::vector<double> summed_loads(const std::vector<StepCounts>& counts, size_t begin, size_t end, size_t layer) {
  std::vector<double> sum(counts[begin].layers[layer].size(), 0.0);
  for (size_t i = begin; i < end; ++i) {
    const std::vector<double>& add = counts[i].layers[layer];
    for (size_t expert = 0; expert < std::min(sum.size(), add.size()); ++expert) sum[expert] += add[expert];
  }
  double total = 0;
  for (const double value : sum) total += value;
  // Four digits are more than a colour shows, and keep the page small.
  for (double& value : sum) {
    value = total > 0 ? std::round(1e3 * value * static_cast<double>(sum.size()) / total) / 1e3 : 0;
  }
  return sum;
}

Json loads_json(const std::vector<StepCounts>& counts, const std::vector<int64_t>& numbers, size_t most) {
  if (counts.empty()) return nullptr;
  const size_t times = std::min(counts.size(), most);
  const auto begin = [&](size_t time) { return time * counts.size() / times; };
  Json steps = Json::array(), layers = Json::array();
  for (size_t time = 0; time < times; ++time) steps.push_back(counts[begin(time + 1) - 1].step);
  for (size_t layer = 0; layer < numbers.size(); ++layer) {
    Json loads = Json::array();
    for (size_t time = 0; time < times; ++time) {
      loads.push_back(summed_loads(counts, begin(time), begin(time + 1), layer));
    }
    layers.push_back({{"layer", numbers[layer]}, {"loads", std::move(loads)}});
  }
  return {{"steps", steps}, {"layers", layers}};
}

}  // namespace

RunLog read_log(const fs::path& file, const std::vector<int64_t>& wanted, size_t points, size_t times) {
  const MappedFile mapped(file);
  Reader reader(file);
  reader.read(mapped.text());
  RunLog log;
  log.about = reader.about;
  double step_flops = 0;
  if (const Json* plan = log.about.is_object() ? json_find(log.about, "plan", file.string()) : nullptr) {
    step_flops = json_number(*plan, "step_flops", file.string(), 0);
  }
  log.curves = Thinned(reader.points, points, step_flops).columns();
  log.loads = loads_json(reader.counts, reader.layer_numbers, times);
  std::vector<double> rates;
  for (const StepPoint& point : reader.points) {
    if (point.tokens_per_second > 0) rates.push_back(point.tokens_per_second);
    if (std::find(wanted.begin(), wanted.end(), point.step) == wanted.end()) continue;
    log.spent[point.step] = {{"tokens", point.tokens},
                             {"seconds", point.seconds},
                             {"flops", step_flops > 0 ? Json(step_flops * static_cast<double>(point.step)) : Json()}};
  }
  if (!rates.empty()) log.tokens_per_second = median(rates);
  if (!reader.points.empty()) log.steps = reader.points.back().step;
  log.peak_bytes = reader.peak_bytes;
  return log;
}

}  // namespace moe
