#include "report/runs.h"

#include <algorithm>

#include "base/error.h"
#include "base/paths.h"
#include "report/curves.h"

namespace moe {
namespace {

/// The objects of a file with one in each line; none if there is no file.
std::vector<Json> lines_of(const fs::path& file) {
  std::vector<Json> lines;
  if (!path_exists(file)) return lines;
  const std::string text = read_file(file);
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(parse_json(std::string_view(text).substr(begin, end - begin),
                               fmt::format("{}, line {}", file.string(), lines.size() + 1)));
  }
  return lines;
}

Json json_if_there(const fs::path& file) { return path_exists(file) ? read_json(file) : Json(); }

Json member_or_null(const Json& object, std::string_view key, const std::string& where) {
  const Json* found = json_find(object, key, where);
  return found == nullptr ? Json() : *found;
}

Json domain_losses(const Json& line, const std::string& where) {
  Json losses = Json::object();
  const Json* domains = json_find(line, "domains", where);
  if (domains == nullptr) return losses;
  for (const auto& [name, score] : domains->items()) losses[name] = member_or_null(score, "loss", where);
  return losses;
}

Json evaluations_json(const std::vector<Json>& lines, const RunLog& log, const std::string& where) {
  Json list = Json::array();
  for (const Json& line : lines) {
    const int64_t step = json_int(line, "step", where);
    Json entry = {{"step", step},
                  {"loss", member_or_null(line, "loss", where)},
                  {"loss_error", member_or_null(line, "loss_error", where)},
                  {"domains", domain_losses(line, where)}};
    if (const auto spent = log.spent.find(step); spent != log.spent.end()) entry.update(spent->second);
    list.push_back(std::move(entry));
  }
  return list;
}

/// What the page shows of a file of `moe eval loss --json`.
Json evaluation_parts(const fs::path& file) {
  const Json whole = read_json(file);
  const std::string where = file.string();
  if (json_find(whole, "all", where) == nullptr || json_find(whole, "domains", where) == nullptr) {
    fail("{} is not a file of `moe eval loss --json`: it lacks \"all\" or \"domains\"", where);
  }
  Json parts = Json::object();
  for (const char* key : {"model", "all", "domains", "routing", "choices"}) {
    parts[key] = member_or_null(whole, key, where);
  }
  return parts;
}

Json evaluation_of(const ReportedRun& run) {
  if (!run.evaluation.empty()) return evaluation_parts(run.evaluation);
  const fs::path usual = run.folder / "eval.json";
  return path_exists(usual) ? evaluation_parts(usual) : Json();
}

/// The file of `moe eval causal --json`.
Json causal_of(const fs::path& file) {
  if (!path_exists(file)) return {};
  Json causal = read_json(file);
  const std::string where = file.string();
  if (json_find(causal, "layers", where) == nullptr || json_find(causal, "domains", where) == nullptr) {
    fail("{} is not a file of `moe eval causal --json`: it lacks \"layers\" or \"domains\"", where);
  }
  return causal;
}

std::string text_if_there(const fs::path& file) { return path_exists(file) ? read_file(file) : ""; }

Json run_json(const ReportedRun& run) {
  const fs::path evaluations = run.folder / "eval.jsonl";
  const std::vector<Json> lines = lines_of(evaluations);
  std::vector<int64_t> steps;
  for (const Json& line : lines) steps.push_back(json_int(line, "step", evaluations.string()));
  const RunLog log = read_log(run.folder / "log.jsonl", steps);
  return {{"name", run.name},
          {"folder", run.folder.string()},
          {"about", log.about},
          {"curves", log.curves},
          {"loads", log.loads},
          {"steps", log.steps},
          {"tokens_per_second", log.tokens_per_second},
          {"peak_bytes", log.peak_bytes},
          {"evaluations", evaluations_json(lines, log, evaluations.string())},
          {"samples", lines_of(run.folder / "samples.jsonl")},
          {"warnings", lines_of(run.folder / "warnings.jsonl")},
          {"changes", lines_of(run.folder / "changes.jsonl")},
          {"status", json_if_there(run.folder / "status.json")},
          {"run_file", text_if_there(run.folder / "run.toml")},
          {"evaluation", evaluation_of(run)},
          {"causal", causal_of(run.folder / "causal.json")}};
}

std::string own_name(const fs::path& folder) {
  const fs::path tidy = tidy_path(folder);
  const std::string name = tidy.filename().string();
  std::error_code unknown;
  return name.empty() || name == "." || name == ".."
             ? fs::absolute(tidy, unknown).lexically_normal().filename().string()
             : name;
}

/// The last `count` parts of a path.
std::string last_parts(const fs::path& folder, size_t count) {
  std::vector<std::string> parts;
  for (const fs::path& part : tidy_path(folder)) parts.push_back(part.string());
  fs::path name;
  for (size_t i = parts.size() - std::min(count, parts.size()); i < parts.size(); ++i) name /= parts[i];
  return name.string();
}

}  // namespace

bool is_run_folder(const fs::path& path) { return path_exists(path / "log.jsonl"); }

std::vector<ReportedRun> runs_of(const fs::path& path) {
  if (!path_exists(path)) fail("{} does not exist; expected the folder of a run or of a study", path.string());
  if (!is_folder(path)) {
    fail("{} is a file; expected the folder of a run, which has a log.jsonl, or of a study", path.string());
  }
  if (is_run_folder(path)) return {{.name = own_name(path), .folder = path}};
  std::vector<ReportedRun> runs;
  if (!is_folder(path / "runs")) {
    fail("{} is not the folder of a run, which has a log.jsonl, nor of a study, which has runs/", path.string());
  }
  for (const fs::path& folder : folder_entries(path / "runs")) {
    if (is_run_folder(folder)) runs.push_back({.name = own_name(folder), .folder = folder});
  }
  if (runs.empty()) fail("{} has no run with a log.jsonl yet", (path / "runs").string());
  return runs;
}

void tell_apart(std::vector<ReportedRun>& runs) {
  for (size_t parts = 2; parts < 8; ++parts) {
    std::vector<size_t> alike;
    for (size_t i = 0; i < runs.size(); ++i) {
      const auto same = [&](const ReportedRun& run) { return run.name == runs[i].name; };
      if (std::count_if(runs.begin(), runs.end(), same) > 1) alike.push_back(i);
    }
    std::error_code unknown;
    for (const size_t i : alike) runs[i].name = last_parts(fs::absolute(runs[i].folder, unknown), parts);
  }
}

Json report_data(const std::vector<ReportedRun>& runs) {
  Json list = Json::array();
  for (const ReportedRun& run : runs) list.push_back(run_json(run));
  return {{"runs", list}};
}

}  // namespace moe
