#include "train/run_folder.h"

#include <algorithm>
#include <charconv>
#include <sys/file.h>

#include <fcntl.h>
#include <unistd.h>

#include "checkpoint/trainer_state.h"

namespace moe {
namespace {

constexpr std::string_view kStepPrefix = "step-";

// The step of a folder name "step-N"; nothing for other names, "step-N.tmp" among them.
std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kStepPrefix.size(), end, step);
  if (error != std::errc() || rest != end) return std::nullopt;
  return step;
}

}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(path) {
  make_folder(path_);
  const fs::path lock = path_ / "lock";
  lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) fail("cannot create {}: {}", lock.string(), std::generic_category().message(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail("{} is in use by another process; wait for it or choose another run.dir", path_.string());
  }
}

RunFolder::~RunFolder() { ::close(lock_); }

fs::path RunFolder::checkpoint(int64_t step) const { return path_ / fmt::format("{}{}", kStepPrefix, step); }

std::vector<int64_t> RunFolder::steps() const {
  std::vector<int64_t> steps;
  for (const auto& entry : fs::directory_iterator(path_)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && entry.is_directory() && fs::exists(entry.path() / "trainer_state.json")) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

bool RunFolder::holds_a_run() const { return fs::exists(log()) || !steps().empty(); }

std::optional<int64_t> RunFolder::latest_step() const {
  const std::vector<int64_t> all = steps();
  if (all.empty()) return std::nullopt;
  return all.back();
}

void RunFolder::point_latest_to(int64_t step) {
  const fs::path temporary = path_ / "latest.tmp";
  std::error_code ignored;
  fs::remove(temporary, ignored);
  fs::create_directory_symlink(checkpoint(step).filename(), temporary);
  fs::rename(temporary, path_ / "latest");
}

void RunFolder::save_checkpoint(int64_t step, const std::function<void(const fs::path&)>& write,
                                const CheckpointConfig& keep) {
  const fs::path target = checkpoint(step);
  const fs::path temporary = target.string() + ".tmp";
  fs::remove_all(temporary);
  make_folder(temporary);
  try {
    write(temporary);
    fs::remove_all(target);
    rename_into_place(temporary, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  point_latest_to(step);
  const std::vector<int64_t> all = steps();
  for (size_t i = 0; i + static_cast<size_t>(keep.keep_last) < all.size(); ++i) {
    const bool kept = keep.keep_every > 0 && all[i] % keep.keep_every == 0;
    if (!kept) fs::remove_all(checkpoint(all[i]));
  }
}

void RunFolder::remove_checkpoints() {
  fs::remove(path_ / "latest");
  for (const int64_t step : steps()) fs::remove_all(checkpoint(step));
}

std::optional<int64_t> second_stage_of_run(const fs::path& path) {
  const fs::path latest = path / "latest";
  if (!fs::exists(latest / "trainer_state.json")) return std::nullopt;
  const int64_t step = load_trainer_state(latest).second_stage;
  return step > 0 ? std::optional(step) : std::nullopt;
}

}  // namespace moe
