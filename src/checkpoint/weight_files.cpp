#include "checkpoint/weight_files.h"

#include <set>
#include <string>

#include "base/error.h"
#include "formats/json.h"

namespace moe {

std::map<std::string, std::string> weight_map(const fs::path& folder) {
  std::error_code ignored;
  const fs::path index_path = folder / kWeightIndex;
  if (fs::exists(folder / "model.safetensors", ignored) || !fs::exists(index_path, ignored)) return {};
  const std::string where = index_path.string();
  const Json index = read_json(index_path);
  const Json& map = json_member(index, "weight_map", where);
  if (!map.is_object()) fail("{}: weight_map is {}, expected an object", where, json_kind(map));
  std::map<std::string, std::string> files;
  for (const auto& [tensor, name] : map.items()) {
    if (!name.is_string()) fail("{}: the file of {} is {}, expected a name", where, tensor, json_kind(name));
    files.emplace(tensor, name.get<std::string>());
  }
  if (files.empty()) fail("{}: weight_map names no file, expected at least one", where);
  return files;
}

std::vector<fs::path> weight_files(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& [tensor, name] : weight_map(folder)) names.insert(name);
  if (names.empty()) return {folder / "model.safetensors"};
  const std::string where = (folder / kWeightIndex).string();
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const std::string& name : names) {
    if (fs::path(name).filename() != fs::path(name)) {
      fail("{}: weight_map names the file {:?}, expected a name without a folder", where, name);
    }
    files.push_back(folder / name);
    if (!fs::exists(files.back(), ignored)) {
      fail("{}: weight_map names {:?}, which is not in the folder; copy all of the model's {} files", where, name,
           names.size());
    }
  }
  return files;
}

std::string weight_file(size_t index, size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_weight_index(const fs::path& folder, const Json& files, int64_t bytes) {
  const Json index = {{"metadata", {{"total_size", bytes}}}, {"weight_map", files}};
  write_file(folder / kWeightIndex, json_text(index, 2) + "\n");
}

}  // namespace moe
