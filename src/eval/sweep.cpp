#include "eval/sweep.h"

#include <charconv>

#include "base/error.h"
#include "eval/report.h"

namespace moe {
namespace {

constexpr std::string_view kExperts = "experts-per-token", kMaskBest = "mask-best", kDropShared = "drop-shared";

[[noreturn]] void fail_sweep(std::string_view text) {
  fail_usage("--sweep {}: expected {}=N,N,..., {}=N,N,... or {}", text, kExperts, kMaskBest, kDropShared);
}

int64_t parse_value(std::string_view value, int64_t least, std::string_view whole) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) fail_sweep(whole);
  if (number < least) fail_usage("--sweep {}: found {}, expected numbers from {} on", whole, number, least);
  return number;
}

SweepPoint point_of(std::string_view name, std::string_view value, const RoutingSwitches& base,
                    std::string_view whole) {
  SweepPoint point{.name = std::string(name), .value = std::nullopt, .switches = base};
  if (name == kExperts) {
    point.value = point.switches.experts_per_token = parse_value(value, 1, whole);
  } else {
    point.value = point.switches.skip = parse_value(value, 0, whole);
  }
  return point;
}

std::string line(std::string_view name, std::string_view value, const Score& score, std::string_view change) {
  return fmt::format("{:<18} {:>6} {:>18} {:>9} {:>18}\n", name, value, with_error(score.loss(), score.loss_error),
                     change, with_error(score.bits_per_byte(), score.bits_per_byte_error));
}

}  // namespace

std::string SweepPoint::text() const { return value ? fmt::format("{}={}", name, *value) : name; }

std::vector<SweepPoint> parse_sweep(std::string_view text, const RoutingSwitches& base) {
  if (text == kDropShared) {
    SweepPoint point{.name = std::string(text), .value = std::nullopt, .switches = base};
    point.switches.drop_shared = true;
    return {point};
  }
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (equals == std::string_view::npos || (name != kExperts && name != kMaskBest)) fail_sweep(text);
  std::vector<SweepPoint> points;
  for (std::string_view rest = text.substr(equals + 1);;) {
    const size_t comma = rest.find(',');
    points.push_back(point_of(name, rest.substr(0, comma), base, text));
    if (comma == std::string_view::npos) return points;
    rest.remove_prefix(comma + 1);
  }
}

void check_sweep(const ModelConfig& model, const std::vector<SweepPoint>& points) {
  for (const SweepPoint& point : points) {
    try {
      switched(model, point.switches);
    } catch (const Error& error) {
      fail("--sweep {}: {}", point.text(), error.what());
    }
  }
}

Json sweep_json(const std::vector<SweepResult>& sweep, const EvaluationResult& unswitched) {
  Json list = Json::array();
  for (const auto& [point, result] : sweep) {
    Json entry = scores_json(result);
    entry["switch"] = point.name;
    entry["value"] = point.value ? Json(*point.value) : Json();
    entry["loss_change"] = result.all.loss() - unswitched.all.loss();
    list.push_back(std::move(entry));
  }
  return list;
}

std::string sweep_table(const std::vector<SweepResult>& sweep, const EvaluationResult& unswitched) {
  std::string text = fmt::format("{:<18} {:>6} {:>18} {:>9} {:>18}\n", "switch", "value", "loss (nats/token)", "change",
                                 "bits per byte");
  text += line("none", "", unswitched.all, "");
  for (const auto& [point, result] : sweep) {
    text += line(point.name, point.value ? std::to_string(*point.value) : "", result.all,
                 fmt::format("{:+.4f}", result.all.loss() - unswitched.all.loss()));
  }
  return text;
}

}  // namespace moe
