#include "checkpoint/model_path.h"

#include <charconv>

#include "base/error.h"
#include "base/file.h"
#include "formats/gguf.h"

namespace moe {
namespace {

bool is_there(const fs::path& path) {
  std::error_code unknown;
  return fs::exists(path, unknown);
}

/// The number of "step-000123"; -1 for another name.
int64_t step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  int64_t step = -1;
  if (!name.starts_with(kPrefix)) return -1;
  const auto [end, error] = std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  return error == std::errc() && end == name.data() + name.size() ? step : -1;
}

/// A model's folder, or that of an adapter.
bool is_model(const fs::path& folder) {
  return is_there(folder / "config.json") || is_there(folder / "adapter_config.json");
}

fs::path newest_checkpoint(const fs::path& run) {
  fs::path newest;
  int64_t most = -1;
  std::error_code error;
  for (fs::directory_iterator entry(run, error), end; !error && entry != end; entry.increment(error)) {
    const int64_t step = step_of(entry->path().filename().string());
    if (step <= most || !is_model(entry->path())) continue;
    most = step;
    newest = entry->path();
  }
  return newest;
}

}  // namespace

bool has_tokenizer(const fs::path& folder) {
  return is_there(folder / "tokenizer.json") || is_there(folder / "vocab.json") || is_there(folder / "tokenizer.model");
}

namespace {

/// Refuses a folder that holds something else of this program.
void refuse_other_kinds(const fs::path& folder) {
  constexpr const char* kAdvice = "name the folder of a model or of a run, or a GGUF file";
  if (is_there(folder / "dataset.json")) {
    fail("{} is a dataset, expected a model (it has no config.json); {}", folder.string(), kAdvice);
  }
  if (is_there(folder / "expert_cfg.json")) {
    fail(
        "{} is an adapter of experts, expected a model (it has no config.json); `moe convert MODEL OUT --experts {}` "
        "puts them into their model",
        folder.string(), folder.string());
  }
  if (has_tokenizer(folder)) {
    fail("{} is the folder of a tokenizer, expected a model (it has no config.json); {}", folder.string(), kAdvice);
  }
}

}  // namespace

std::string model_folder(const std::string& path) {
  const fs::path folder(path);
  if (is_model(folder) || is_gguf(folder)) return path;
  if (is_model(folder / "latest")) return (folder / "latest").string();
  if (const fs::path newest = newest_checkpoint(folder); !newest.empty()) return newest.string();
  if (is_there(folder / "run.toml")) {
    fail("{} is the folder of a run that has no checkpoint yet; wait for its first one, or name a model's folder",
         path);
  }
  refuse_other_kinds(folder);
  return path;
}

}  // namespace moe
