#include "checkpoint/checkpoint_folder.h"

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/adapter_config.h"
#include "checkpoint/checksums.h"
#include "checkpoint/hf_config.h"
#include "checkpoint/weight_files.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "formats/toml.h"
#include "tokenizer/tokenizer.h"

namespace moe {
namespace {

constexpr std::string_view kPrefix = "optimizer-", kSuffix = ".safetensors";

void require_count(const std::string& where, std::string_view key, int64_t value, int64_t least) {
  if (value < least) fail("{}: \"{}\" is {}, expected at least {}", where, key, value, least);
}

}  // namespace

std::vector<fs::path> optimizer_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) names.push_back(name);
  }
  if (error) fail("cannot read the folder {}: {}", folder.string(), error.message());
  if (names.empty()) {
    fail("{} has no optimizer-*.safetensors, so training cannot continue from it; choose a checkpoint of `moe train`",
         folder.string());
  }
  std::sort(names.begin(), names.end());
  std::vector<fs::path> paths;
  const std::string& any = names.front();
  const size_t of = any.find("-of-");
  const std::string rest = of == std::string::npos ? std::string(kSuffix) : any.substr(of);
  const size_t count = of == std::string::npos ? names.size() : static_cast<size_t>(std::atoll(rest.c_str() + 4));
  for (size_t i = 0; i < std::max(count, names.size()); ++i) {
    const std::string expected = fmt::format("{}{:05}{}", kPrefix, i + 1, rest);
    if (i >= names.size() || names[i] != expected) {
      fail("{} is missing: the optimizer's state is in {}", (folder / expected).string(), counted(count, "file"));
    }
    paths.push_back(folder / expected);
  }
  return paths;
}

TrainerState check_checkpoint(const fs::path& folder) {
  const TrainerState state = load_trainer_state(folder);
  const std::string where = (folder / "trainer_state.json").string();
  require_count(where, "step", state.step, 1);
  require_count(where, "rows_per_step", state.rows_per_step, 1);
  require_count(where, "sequence_length", state.sequence_length, 1);
  require_count(where, "log_bytes", state.log_bytes, 0);
  require_count(where, "eval_bytes", state.eval_bytes, 0);
  require_count(where, "second_stage", state.second_stage, 0);
  const bool adapter = is_adapter(folder);
  if (adapter) {
    AdapterConfig{folder};
  } else {
    read_hf_config(folder);
  }
  const fs::path settings = folder / "run.toml";
  const Settings run = Settings::load(settings);
  for (const char* key : {"data.sequence_length", "data.rows_per_step", "train.steps"}) {
    if (!run.given(key)) fail("{} is cut short or damaged: it lacks {}", settings.string(), key);
  }
  read_json(folder / "tokenizer_config.json");
  Tokenizer::load(folder);
  for (const fs::path& path : adapter ? std::vector{folder / kAdapterWeights} : weight_files(folder)) {
    SafetensorsFile{path};
  }
  for (const fs::path& path : optimizer_files(folder)) SafetensorsFile{path};
  check_checksums(folder);
  return state;
}

}  // namespace moe
