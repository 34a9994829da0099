#include "cli/chat_history.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "base/paths.h"
#include "formats/json.h"

namespace moe {
namespace {

/// The file is shortened when it has several times as many lines as are kept.
constexpr size_t kMostLines = 4 * ChatHistory::kMostEntries;

void restrict_to_owner(const fs::path& path, fs::perms permissions) {
  std::error_code error;
  fs::permissions(path, permissions, error);
  if (error) fail("the permissions of {} cannot be changed: {}", path.string(), error.message());
}

std::string line_of(const std::string& entry) { return json_text(Json(entry)) + "\n"; }

}  // namespace

fs::path default_chat_history() {
  const char* const state = std::getenv("XDG_STATE_HOME");
  const char* const home = std::getenv("HOME");
  fs::path folder;
  if (state != nullptr && fs::path(state).is_absolute()) {
    folder = state;
  } else if (home != nullptr && fs::path(home).is_absolute()) {
    folder = fs::path(home) / ".local" / "state";
  } else {
    return {};
  }
  return folder / "moe" / "chat_history";
}

ChatHistory::ChatHistory(const fs::path& path) {
  if (path.empty()) return;
  try {
    load(path);
  } catch (const std::exception& error) {
    log_warning("{}; what you type is not kept (--no-history turns this off)", error.what());
    file_.reset();
  }
}

void ChatHistory::load(const fs::path& path) {
  constexpr auto kOwnerOnly = fs::perms::owner_read | fs::perms::owner_write;
  if (!path_exists(path.parent_path())) {
    make_folder(path.parent_path());
    restrict_to_owner(path.parent_path(), fs::perms::owner_all);
  }
  size_t lines = 0;
  if (path_exists(path)) {
    const std::string text = read_file(path);
    for (size_t begin = 0; begin < text.size(); ++lines) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      Json entry;
      // A line that a crash has cut, or that somebody has changed, is left out.
      const auto mistake = find_json_mistake(std::string_view(text).substr(begin, end - begin), entry);
      if (!mistake && entry.is_string()) entries_.push_back(entry.get<std::string>());
      begin = end + 1;
    }
    if (entries_.size() > kMostEntries) entries_.erase(entries_.begin(), entries_.end() - kMostEntries);
  }
  if (lines > kMostLines) {
    std::string kept;
    for (const std::string& entry : entries_) kept += line_of(entry);
    write_file(path, kept);
  }
  file_.emplace(path);
  restrict_to_owner(path, kOwnerOnly);
}

void ChatHistory::add(const std::string& entry) {
  if (!file_ || (!entries_.empty() && entries_.back() == entry)) return;
  entries_.push_back(entry);
  try {
    file_->write(line_of(entry));
  } catch (const Error& error) {
    log_warning("{}; what you type is not kept any longer", error.what());
    file_.reset();
  }
}

}  // namespace moe
