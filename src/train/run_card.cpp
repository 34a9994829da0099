#include "train/run_card.h"

#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/utf8.h"
#include "checkpoint/trainer_state.h"
#include "data/shards.h"
#include "formats/json.h"
#include "formats/toml.h"
#include "formats/weighted_paths.h"
#include "train/amounts.h"

namespace moe {
namespace {

/// A run's checkpoint, and what is still there of its run.
struct CheckpointOfRun {
  explicit CheckpointOfRun(const fs::path& checkpoint)
      : settings(Settings::load(checkpoint / "run.toml")), state(load_trainer_state(checkpoint)) {
    std::error_code missing;
    const fs::path folder = fs::canonical(checkpoint, missing).parent_path();
    trained = last_line(folder / "log.jsonl");
    evaluated = last_line(folder / "eval.jsonl");
    const std::string first = path_exists(folder / "log.jsonl") ? read_file(folder / "log.jsonl") : "";
    if (first.starts_with("{\"run\"")) run = parse_json(first.substr(0, first.find('\n')), "log.jsonl")["run"];
  }

  /// The last object of a log up to the checkpoint's step; null: there is none.
  Json last_line(const fs::path& log) const {
    if (!path_exists(log)) return nullptr;
    Json last;
    std::istringstream text(read_file(log));
    for (std::string line; std::getline(text, line);) {
      Json object = parse_json(line, log.string());
      if (object.contains("step") && json_int(object, "step", log.string()) <= state.step) last = std::move(object);
    }
    return last;
  }

  Settings settings;
  TrainerState state;
  Json trained, evaluated, run;
};

std::string last_part(const std::string& path) { return valid_utf8(tidy_path(path).filename().string()); }

/// A name as a cell of a table.
std::string cell(std::string_view name) {
  std::string text;
  for (const char c : valid_utf8(name)) {
    if (c == '|') text += '\\';
    text += c == '\n' ? ' ' : c;
  }
  return text;
}

std::string data_text(CheckpointOfRun& of) {
  const auto path = of.settings.get<std::string>("data.train", "");
  const int64_t rows = of.state.step * of.state.rows_per_step;
  std::string text = fmt::format("## Data\n\n{} of {} of {}: {} tokens at most", counted(of.state.step, "step"),
                                 counted(of.state.rows_per_step, "row"), counted(of.state.sequence_length, "token"),
                                 count_text(rows * of.state.sequence_length));
  if (of.trained.is_object() && of.trained.contains("epoch")) {
    text += fmt::format(", {:.2f} epochs", json_number(of.trained, "epoch", "log.jsonl"));
  }
  text += ".\n";
  if (path.empty() || is_weighted_paths(path) || !path_exists(fs::path(path) / "dataset.json")) return text + "\n";
  const Dataset dataset(path);
  text += fmt::format("\nThe dataset `{}`:\n\n| domain | documents | tokens | bytes |\n|---|---|---|---|\n",
                      last_part(path));
  for (const DomainTotals& domain : dataset.info().domains) {
    text += fmt::format("| {} | {} | {} | {} |\n", cell(domain.name), domain.documents, domain.tokens, domain.bytes);
  }
  return text + "\n";
}

std::string recipe_text(CheckpointOfRun& of) {
  std::string text = "## Recipe\n\n| | |\n|---|---|\n";
  const auto row = [&](const char* label, const std::string& value) {
    if (!value.empty()) text += fmt::format("| {} | {} |\n", label, value);
  };
  const auto fact = [&](const char* key) {
    return of.run.is_object() && of.run.contains(key) ? json_string(of.run, key, "log.jsonl") : std::string();
  };
  row("routing", fact("method"));
  row("program", fact("program"));
  row("device", fact("device"));
  row("started", fact("started"));
  Settings& keys = of.settings;
  if (const auto from = keys.get<std::string>("model.from", ""); !from.empty()) row("began from", last_part(from));
  row("trained parameters", keys.get<std::string>("train.parameters", "all"));
  row("steps of the schedule",
      fmt::format("{}, {} of warm-up, {}", keys.get<int64_t>("train.steps", 0),
                  keys.get<int64_t>("schedule.warmup_steps", 0), keys.get<std::string>("schedule.kind", "")));
  row("optimiser",
      fmt::format("{}, peak rate {:g}, decay {:g}", keys.get<std::string>("optimizer.kind", ""),
                  keys.get<double>("optimizer.learning_rate", 0), keys.get<double>("optimizer.weight_decay", 0)));
  row("computed in", keys.get<std::string>("train.dtype", ""));
  row("seed", fmt::format("{}", of.state.seed));
  return text + "\nAll settings are in run.toml of the run's folder.\n\n";
}

std::string losses_text(const Json& line) {
  if (!line.is_object()) return "";
  const std::string where = "eval.jsonl";
  std::string text =
      "## Loss on held-out text\n\n| domain | nats per token | bits per byte | tokens |\n|---|---|---|---|\n";
  const auto row = [&](const std::string& name, const Json& scores) {
    text += fmt::format("| {} | {:.4f} | {:.4f} | {} |\n", cell(name), json_number(scores, "loss", where),
                        json_number(scores, "bits_per_byte", where, 0), json_int(scores, "tokens", where, 0));
  };
  if (line.contains("domains")) {
    for (const auto& [name, scores] : line["domains"].items()) row(name, scores);
  }
  row("all", line);
  return text + "\n";
}

std::string load_text(const Json& line) {
  if (!line.is_object() || !line.contains("layers") || line["layers"].empty()) return "";
  const std::string where = "log.jsonl";
  std::string text =
      "## Load of the experts\n\nOf the last step. Entropy 1 and largest load 1 mean that all experts are used "
      "equally.\n\n| layer | entropy | largest load, times the mean | experts without tokens |\n|---|---|---|---|\n";
  for (const Json& layer : line["layers"]) {
    text += fmt::format("| {} | {:.3f} | {:.2f} | {} |\n", json_int(layer, "layer", where),
                        json_number(layer, "load_entropy", where, 0),
                        json_number(layer, "max_over_mean_load", where, 0), json_int(layer, "dead_experts", where, 0));
  }
  return text + "\n";
}

}  // namespace

std::string run_card(const fs::path& checkpoint) {
  if (!path_exists(checkpoint / "run.toml") || !path_exists(checkpoint / "trainer_state.json")) return "";
  CheckpointOfRun of(checkpoint);
  return data_text(of) + recipe_text(of) + losses_text(of.evaluated) + load_text(of.trained);
}

}  // namespace moe
