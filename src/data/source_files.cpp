#include "data/source_files.h"

#include <algorithm>
#include <set>

#include <fnmatch.h>

#include "base/error.h"
#include "base/paths.h"
#include "data/reader.h"

namespace moe {
namespace {

bool is_pattern(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

bool is_link(const fs::path& path) {
  std::error_code error;
  return fs::is_symlink(path, error);
}

/// Reading a pipe or a device that happens to be in a folder would wait for ever.
void refuse_no_file(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error) || error) return;
  fail_usage("{} is a pipe or a device, expected a file; name it by itself to read it", path.string());
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

/// Calls `function` for every file below a folder, and counts what is hidden. A folder that links lead to again is
/// entered once.
template <class Function>
void for_each_file(const fs::path& folder, std::set<fs::path>& entered, int64_t& hidden, const Function& function) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  if (error || !entered.insert(real).second) return;
  for (const fs::path& path : folder_entries(folder)) {
    if (is_hidden(path)) {
      ++hidden;
    } else if (is_folder(path)) {
      for_each_file(path, entered, hidden, function);
    } else {
      function(path);
    }
  }
}

std::string name_of_folder(const fs::path& folder) {
  std::error_code no_folder;
  const fs::path name = tidy_path(fs::absolute(folder, no_folder).lexically_normal()).filename();
  return name.empty() ? "root" : name.string();
}

SourceFiles files_of_folder(const fs::path& folder) {
  SourceFiles found{.domain = name_of_folder(folder)};
  std::set<fs::path> entered;
  int64_t hidden = 0;
  for_each_file(folder, entered, hidden, [&](const fs::path& path) {
    if (path.extension() == ".parquet") check_document_file(path);
    if (format_of(path) == DocumentFormat::unknown) {
      ++found.left_out[path.has_extension() ? path.extension().string() : "without ending"];
    } else {
      refuse_no_file(path);
      found.files.push_back(path);
    }
  });
  if (hidden > 0) found.left_out["hidden (their names begin with a dot)"] = hidden;
  std::sort(found.files.begin(), found.files.end());
  if (found.files.empty()) {
    fail_usage("{} holds no file that can be read, expected .jsonl, .json, .txt, .md or programs' sources",
               folder.string());
  }
  return found;
}

/// The paths below `folder` that the parts of a pattern from `part` on match.
void match_parts(const fs::path& folder, const std::vector<std::string>& parts, size_t part,
                 std::vector<fs::path>& files) {
  if (part == parts.size()) return;
  const bool last = part + 1 == parts.size();
  const fs::path where = folder.empty() ? "." : folder;
  if (!is_pattern(parts[part])) {
    const fs::path path = folder / parts[part];
    if (last ? path_exists(path) && !is_folder(path) : is_folder(path)) {
      last ? files.push_back(path) : match_parts(path, parts, part + 1, files);
    }
    return;
  }
  if (parts[part] == "**") match_parts(folder, parts, part + 1, files);
  if (!is_folder(where)) return;
  for (const fs::path& entry : folder_entries(where)) {
    const fs::path path = folder / entry.filename();
    const std::string name = entry.filename().string();
    if (parts[part] == "**") {
      if (!is_hidden(path) && is_folder(path) && !is_link(path)) match_parts(path, parts, part, files);
    } else if (::fnmatch(parts[part].c_str(), name.c_str(), FNM_PERIOD) == 0) {
      if (last && !is_folder(path)) files.push_back(path);
      if (!last && is_folder(path)) match_parts(path, parts, part + 1, files);
    }
  }
}

SourceFiles files_of_pattern(const std::string& pattern) {
  std::vector<std::string> parts;
  const fs::path path(pattern);
  for (const fs::path& part : path.relative_path()) {
    if (!part.empty()) parts.push_back(part.string());
  }
  SourceFiles found;
  match_parts(path.root_path(), parts, 0, found.files);
  std::sort(found.files.begin(), found.files.end());
  found.files.erase(std::unique(found.files.begin(), found.files.end()), found.files.end());
  if (found.files.empty()) fail_usage("{}: no file matches this pattern", pattern);
  for (const fs::path& file : found.files) refuse_no_file(file);
  const fs::path folder = found.files.front().parent_path();
  const bool one_folder = std::all_of(found.files.begin(), found.files.end(),
                                      [&](const fs::path& file) { return file.parent_path() == folder; });
  if (one_folder) found.domain = name_of_folder(folder.empty() ? "." : folder);
  return found;
}

}  // namespace

SourceFiles find_source_files(const std::string& what) {
  if (what == kStandardInput) return {.files = {what}};
  if (is_folder(what)) return files_of_folder(what);
  if (!path_exists(what) && is_pattern(what)) return files_of_pattern(what);
  return {.files = {what}};
}

}  // namespace moe
