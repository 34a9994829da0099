#include "train/run_folder.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/log.h"
#include "base/remove_tree.h"
#include "base/signal_cleanup.h"
#include "base/temporary.h"
#include "checkpoint/checkpoint_folder.h"

namespace moe {
namespace {

constexpr const char *kLog = "log.jsonl", *kEvaluations = "eval.jsonl";
constexpr std::string_view kStepPrefix = "step-";
/// Suffixes of folders that are being written, and of those that are being removed.
constexpr std::string_view kWriting = ".tmp", kRemoving = ".removed";

// The step of a folder name "step-N"; nothing for other names, "step-N.tmp" among them.
std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kStepPrefix.size(), end, step);
  if (error != std::errc() || rest != end || step < 0) return std::nullopt;
  return step;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) fail("cannot read the folder {}: {}", folder.string(), error.message());
  return names;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

// Ascending.
std::vector<int64_t> steps_in(const fs::path& run) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(run)) {
    const auto step = step_of(name);
    if (step && is_folder(run / name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

fs::path folder_of(const fs::path& run, int64_t step) { return run / fmt::format("{}{}", kStepPrefix, step); }

// The step of `latest` if it is a folder: copying a run by its content turns the link into a folder.
std::optional<int64_t> step_of_copy(const fs::path& run) {
  const fs::path copy = run / "latest";
  if (!is_folder(copy)) return std::nullopt;
  try {
    return load_trainer_state(copy).step;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

// Renames to a free name. Returns an error code instead of throwing.
std::error_code set_aside(const fs::path& from, const std::string& to) {
  fs::path target = to;
  std::error_code error;
  for (int i = 2; fs::exists(fs::symlink_status(target, error)); ++i) target = fmt::format("{}-{}", to, i);
  fs::rename(from, target, error);
  return error;
}

void try_to_remove(const fs::path& path) {
  if (const auto error = remove_tree(path)) {
    log_warning("cannot remove {}: {}; remove it by hand", path.string(), error.message());
  }
}

}  // namespace

CheckpointSearch find_checkpoint(const fs::path& run) {
  CheckpointSearch search;
  std::error_code ignored;
  if (!is_folder(run) && !fs::is_directory(run, ignored)) return search;
  std::vector<std::pair<int64_t, fs::path>> candidates;
  for (const int64_t step : steps_in(run)) candidates.emplace_back(step, folder_of(run, step));
  if (const auto copied = step_of_copy(run)) candidates.emplace_back(*copied, run / "latest");
  // Newest first. Of two with the same step, the one with a step's name comes first.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [step, folder] : candidates) {
    try {
      const TrainerState state = check_checkpoint(folder);
      if (state.step != step) {
        fail("{} belongs to step {}", (folder / "trainer_state.json").string(), state.step);
      }
      search.found = {folder, state};
      return search;
    } catch (const std::exception& error) {
      search.damaged.push_back({folder, error.what()});
    }
  }
  if (search.damaged.empty()) return search;
  std::string all;
  for (const DamagedCheckpoint& damaged : search.damaged) all += "\n  " + damaged.damage;
  fail("{} has no checkpoint that training can continue from; repair one, or remove them to start at step 0:{}",
       run.string(), all);
}

std::string held_in(const fs::path& run) {
  std::error_code ignored;
  if (!fs::is_directory(run, ignored)) return "";
  for (const char* name : {"run.toml", "latest"}) {
    if (fs::exists(fs::symlink_status(run / name, ignored))) return name;
  }
  for (const char* log : {kLog, kEvaluations}) {  // a start that failed leaves empty ones
    if (fs::exists(run / log, ignored) && fs::file_size(run / log, ignored) != 0) return log;
  }
  const std::vector<int64_t> steps = steps_in(run);
  return steps.empty() ? "" : folder_of(run, steps.back()).filename().string();
}

RunFolder::RunFolder(const fs::path& path, bool writes) : path_(path) {
  if (!writes) return;
  make_folder(path_);
  lock_.emplace(path_ / "lock");
  if (!lock_->try_lock()) {
    fail("{} is in use by another process; wait for it or choose another run.dir", path_.string());
  }
  sweep();
}

// Only this class uses these names. The folder is locked, so no other process writes under them.
void RunFolder::sweep() {
  sweep_leftovers(path_);
  for (const std::string& name : names_in(path_)) {
    bool left = name == "latest.tmp";
    for (const std::string_view suffix : {kWriting, kRemoving}) {
      if (!name.ends_with(suffix)) continue;
      left = left || step_of(std::string_view(name).substr(0, name.size() - suffix.size())).has_value();
    }
    if (left) try_to_remove(path_ / name);
  }
}

fs::path RunFolder::log() const { return path_ / kLog; }

fs::path RunFolder::evaluations() const { return path_ / kEvaluations; }

fs::path RunFolder::checkpoint(int64_t step) const { return folder_of(path_, step); }

void RunFolder::settle(const CheckpointSearch& search) {
  for (const auto& [folder, damage] : search.damaged) {
    const std::string aside = folder.string() + ".damaged";
    if (const auto error = set_aside(folder, aside)) {
      fail("cannot rename the damaged checkpoint {}: {}; move it away", folder.string(), error.message());
    }
    log_warning("{}; it is set aside as {}", damage, aside);
  }
  if (is_folder(path_ / "latest")) settle_copy();
  if (search.found) point_latest_to(search.found->state.step);
}

void RunFolder::settle_copy() {
  const fs::path copy = path_ / "latest";
  const auto step = step_of_copy(path_);
  if (!step) {
    if (const auto error = set_aside(copy, copy.string() + ".old")) {
      fail("cannot rename {}, which is not a link to a checkpoint: {}; move it away", copy.string(), error.message());
    }
  } else if (is_folder(checkpoint(*step))) {
    try_to_remove(copy);
  } else {
    rename_into_place(copy, checkpoint(*step));
    log_info("{} was a folder, not a link: it is now {}", copy.string(), checkpoint(*step).string());
  }
}

// The name `latest` is for people and other programs. This program finds its checkpoints without it.
void RunFolder::point_latest_to(int64_t step) {
  const fs::path temporary = path_ / "latest.tmp";
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_directory_symlink(checkpoint(step).filename(), temporary, error);
  if (!error) fs::rename(temporary, path_ / "latest", error);
  if (error) {
    log_warning("cannot make the link {} to {}: {}", (path_ / "latest").string(), checkpoint(step).string(),
                error.message());
  }
}

// It is renamed first: if the process is killed while it removes the folder, the rest must not look like a checkpoint.
void RunFolder::remove_checkpoint(int64_t step) {
  const fs::path folder = checkpoint(step);
  const fs::path removing = folder.string() + std::string(kRemoving);
  std::error_code error;
  fs::rename(folder, removing, error);
  if (error) {  // the rest of an earlier removal may be in the way
    remove_tree(removing);
    fs::rename(folder, removing, error);
  }
  if (error) {
    log_warning("cannot remove the old checkpoint {}: {}; remove it by hand", folder.string(), error.message());
  } else {
    try_to_remove(removing);
  }
}

void RunFolder::save_checkpoint(int64_t step, const std::function<void(const fs::path&)>& write,
                                const CheckpointConfig& keep) {
  const fs::path target = checkpoint(step);
  const fs::path temporary = target.string() + std::string(kWriting);
  remove_tree(temporary);
  doom(temporary, target.string() + std::string(kRemoving));
  make_folder(temporary);
  try {
    write(temporary);
    if (is_folder(target)) remove_checkpoint(step);
    spare(temporary);  // an older checkpoint of this step may be gone
    rename_into_place(temporary, target);
  } catch (...) {
    remove_tree(temporary);
    spare(temporary);
    throw;
  }
  point_latest_to(step);
  const std::vector<int64_t> all = steps_in(path_);
  for (size_t i = 0; i + static_cast<size_t>(keep.keep_last) < all.size(); ++i) {
    const bool kept = keep.keep_every > 0 && all[i] % keep.keep_every == 0;
    if (!kept) remove_checkpoint(all[i]);
  }
}

void RunFolder::remove_checkpoints() {
  std::error_code ignored;
  fs::remove(path_ / "latest", ignored);
  for (const int64_t step : steps_in(path_)) remove_checkpoint(step);
}

}  // namespace moe
