#include "train/resume.h"

#include <algorithm>

#include "base/growing_file.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/random.h"
#include "base/units.h"
#include "formats/json.h"
#include "train/freeze.h"
#include "train/run_keys.h"

namespace moe {
namespace {

bool is_free(const std::string& key) {
  if (key == "data.train") return true;  // its content counts
  for (const ListedKey& listed : all_run_keys()) {
    if (key == listed.info->key) return listed.info->free_on_resume;
  }
  return false;
}

std::string said(const std::string& value) { return value.empty() ? "(absent)" : value; }

std::string list(const std::vector<KeyDifference>& changes, std::string KeyDifference::*value) {
  std::string text;
  for (const KeyDifference& change : changes) {
    text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", change.key, said(change.*value));
  }
  return text;
}

/// Nothing allows another optimiser or other adapters, so this comes before the advice to allow changes.
void refuse_other_state(const FoundCheckpoint& checkpoint, const std::vector<KeyDifference>& changes) {
  for (const KeyDifference& change : changes) {
    constexpr std::string_view kState[] = {"optimizer.kind", "train.parameters", "lora.rank", "lora.rank_experts",
                                           "lora.targets"};
    if (std::find(std::begin(kState), std::end(kState), change.key) == std::end(kState)) continue;
    fail(
        "{} has the optimiser state of {} = {}, which {} cannot continue from; keep {} = {}, or train a new run with "
        "another run.dir",
        checkpoint.folder.string(), change.key, said(change.kept), said(change.here), change.key, said(change.kept));
  }
}

void refuse(const FoundCheckpoint& checkpoint, const RunConfig& run, const std::vector<KeyDifference>& changes,
            const std::vector<std::string>& allowed) {
  refuse_other_state(checkpoint, changes);
  const auto& [folder, state] = checkpoint;
  if (run.schedule.steps < state.step) {
    fail("{} has done {}, but train.steps is {}; set train.steps to at least {}, or use that checkpoint",
         folder.string(), counted(state.step, "step"), run.schedule.steps, state.step);
  }
  std::vector<KeyDifference> refused;
  for (const KeyDifference& change : changes) {
    if (std::find(allowed.begin(), allowed.end(), change.key) == allowed.end()) refused.push_back(change);
  }
  if (refused.empty()) return;
  fail(
      "{} was trained with {}, but this run has {}; resume with the same value, or name each change with --set "
      "KEY=VALUE and --allow-change KEY",
      folder.string(), list(refused, &KeyDifference::kept), list(refused, &KeyDifference::here));
}

/// The checkpoint's list counts. A file that names others now would be without effect.
void refuse_other_experts(const FoundCheckpoint& checkpoint, const RunConfig& run) {
  if (!run.step.experts || !path_exists(run.step.experts_file)) return;
  if (read_expert_list(run.step.experts_file) == *run.step.experts) return;
  fail(
      "{} was trained with the experts of its {}, but train.experts = {} names others; resume with the same list, or "
      "train a new run with another run.dir",
      checkpoint.folder.string(), kExpertListFile, run.step.experts_file);
}

// The value that checkpoints of older versions have instead of the fingerprint.
uint64_t sums_of(const Dataset& dataset) {
  const DatasetInfo& info = dataset.info();
  return hash_name(
      fmt::format("{:x} {} {} {}", info.tokenizer_fingerprint, info.documents(), info.tokens(), info.bytes()));
}

/// The keys that differ and are not free on resume.
std::vector<KeyDifference> differences(const FoundCheckpoint& checkpoint, const RunConfig& run) {
  const fs::path path = checkpoint.folder / "run.toml";
  try {
    auto changes = differing_keys(read_file(path), run);
    std::erase_if(changes, [](const KeyDifference& change) { return is_free(change.key); });
    return changes;
  } catch (const UsageError& error) {
    fail("{} cannot be read by this version, so it cannot be compared: {}", path.string(), error.what());
  }
}

}  // namespace

CheckpointSearch search_start(const fs::path& run_dir, bool resume) {
  const std::string held = held_in(run_dir);
  if (!resume) {
    if (held.empty()) return {};
    fail("{} already holds a run ({}); continue it with --resume, or choose another folder with --set run.dir=...",
         run_dir.string(), held);
  }
  CheckpointSearch search = find_checkpoint(run_dir);
  if (!search.found && !held.empty() && held != "run.toml") {
    fail("{} has {} but no run.toml, so it is no run that can be resumed; choose another folder with --set run.dir=...",
         run_dir.string(), held);
  }
  return search;
}

RunStart start_of(bool resume) {
  if (!resume) return {};
  return {.checkpoint = [](const std::string& run_dir) -> std::optional<std::string> {
    const auto found = find_checkpoint(run_dir).found;
    return found ? std::optional(found->folder.string()) : std::nullopt;
  }};
}

std::vector<KeyDifference> changed_keys(const FoundCheckpoint& checkpoint, const RunConfig& run) {
  auto changes = differences(checkpoint, run);
  // A key that a change of another key leaves without effect is no change of its own.
  std::erase_if(changes, [&](const KeyDifference& change) { return !key_has_effect(change.key, run); });
  return changes;
}

bool keep_settings(Settings& settings, const FoundCheckpoint& checkpoint, const RunConfig& run,
                   const std::vector<std::string>& allowed) {
  std::vector<KeyDifference> chosen, kept;
  for (const KeyDifference& change : differences(checkpoint, run)) {
    // The number of steps follows from epochs or hours.
    const bool by_other =
        change.key == "train.steps" && (settings.given("train.epochs") || settings.given("train.hours"));
    const bool given = (settings.given(change.key) || by_other) && change.here != "\"auto\"";
    if (given) chosen.push_back(change);
    if (!given && !change.kept.empty()) kept.push_back(change);
  }
  refuse(checkpoint, run, chosen, allowed);
  const std::string from = (checkpoint.folder / "run.toml").string();
  for (const KeyDifference& change : kept) settings.keep(change.key, change.kept, from);
  return !kept.empty();
}

std::vector<KeyDifference> check_same_run(const FoundCheckpoint& checkpoint, const RunConfig& run, const Dataset& train,
                                          const std::vector<std::string>& allowed) {
  std::vector<KeyDifference> changes = changed_keys(checkpoint, run);
  const uint64_t there = checkpoint.state.dataset_fingerprint, here = train.fingerprint();
  if (here != there && there != sums_of(train)) {
    changes.push_back({"data.train", fmt::format("a dataset with fingerprint {:016x}", there),
                       fmt::format("{} with fingerprint {:016x}", run.data.train, here)});
  }
  refuse(checkpoint, run, changes, allowed);
  refuse_other_experts(checkpoint, run);
  return changes;
}

void check_optimizer_state(const FoundCheckpoint& checkpoint, const RunConfig& run,
                           const std::vector<KeyDifference>& changes) {
  const std::string folder = checkpoint.folder.string();
  for (const KeyDifference& change : changes) {
    if (change.key != "train.freeze") continue;
    Settings kept;
    kept.set("train.freeze=" + (change.kept.empty() ? "[]" : change.kept));
    StepConfig before = run.step;
    before.freeze = kept.get<std::vector<std::string>>("train.freeze", {});
    const auto then = training_table(run.model, before);
    const auto now = training_table(run.model, run.step);
    std::vector<std::string> lacking;
    for (size_t i = 0; i < now.size(); ++i) {
      if (now[i].trained() && !then[i].trained()) lacking.push_back(now[i].name);
    }
    if (lacking.empty()) continue;
    fail(
        "{} lacks the optimiser state of {}, first {}: train.freeze = {} froze {} when it was written; keep {} in "
        "train.freeze, or train a new run with another run.dir",
        folder, counted(static_cast<int64_t>(lacking.size()), "tensor"), lacking.front(), change.kept,
        lacking.size() == 1 ? "it" : "them", lacking.size() == 1 ? "it" : "them");
  }
}

void check_base(const FoundCheckpoint& checkpoint, const RunConfig& run, const std::vector<KeyDifference>& changes,
                uint64_t fingerprint) {
  const uint64_t there = checkpoint.state.base_fingerprint;
  const bool other_type = std::any_of(changes.begin(), changes.end(), [](const KeyDifference& change) {
    return change.key == "train.dtype" || change.key == "lora.base";
  });
  if (there == 0 || there == fingerprint || other_type) return;
  fail(
      "{} has adapters that were trained beside other weights than those of {} (model.from): their fingerprint is "
      "{:016x}, here it is {:016x}; give the model that the run began with, or train a new run with another run.dir",
      checkpoint.folder.string(), run.from, there, fingerprint);
}

void note_changes(const RunFolder& folder, int64_t step, const std::vector<KeyDifference>& changes) {
  for (const KeyDifference& change : changes) {
    log_info("changed from step {} on: {} was {} and is {}", step + 1, change.key, said(change.kept),
             said(change.here));
    const nlohmann::ordered_json line = {
        {"step", step}, {"key", change.key}, {"from", change.kept}, {"to", change.here}};
    GrowingFile(folder.path() / "changes.jsonl").write(json_text(line) + "\n");
  }
}

}  // namespace moe
