#include "checkpoint/tensor_files.h"

#include <cstring>

#include "base/error.h"
#include "checkpoint/weight_files.h"

namespace moe {

TensorFiles::TensorFiles(const std::vector<fs::path>& paths) {
  MOE_CHECK(!paths.empty());
  files_.reserve(paths.size());  // places_ points into it
  for (const fs::path& path : paths) files_.emplace_back(path);
  for (const SafetensorsFile& file : files_) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      const auto [place, is_new] = places_.try_emplace(tensor.name, Place{&file, &tensor});
      if (is_new) continue;
      fail("{}: the tensor {} is also in {}, expected it in one of the two", file.path().string(), tensor.name,
           place->second.file->path().string());
    }
  }
}

TensorFiles::Place TensorFiles::find(const std::string& name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? Place{} : found->second;
}

bool is_passed_over(const TensorFiles& files, const SafetensorsTensor& tensor, const ModelConfig& config) {
  if (tensor.name.ends_with(".rotary_emb.inv_freq")) return true;
  if (!config.tie_word_embeddings || tensor.name != "lm_head.weight") return false;
  const SafetensorsTensor* const embedding = files.find("model.embed_tokens.weight").tensor;
  return embedding != nullptr && embedding->bytes == tensor.bytes &&
         std::memcmp(embedding->data, tensor.data, tensor.bytes) == 0;
}

TensorFiles open_weight_files(const fs::path& folder, const ModelConfig& config) {
  TensorFiles files(weight_files(folder));
  const std::map<std::string, std::string> map = weight_map(folder);
  if (map.empty()) return files;
  const std::string where = (folder / kWeightIndex).string();
  constexpr const char* kMend = "copy the index and all files of one model again";
  for (const SafetensorsFile& file : files.files()) {
    const std::string name = file.path().filename().string();
    for (const SafetensorsTensor& tensor : file.tensors()) {
      const auto said = map.find(tensor.name);
      if (said == map.end()) {
        if (is_passed_over(files, tensor, config)) continue;
        fail("{}: weight_map lacks {}, which is in {}; {}", where, tensor.name, name, kMend);
      }
      if (said->second == name) continue;
      fail("{}: weight_map says that {} is in {}, and it is in {}; {}", where, tensor.name, said->second, name, kMend);
    }
  }
  for (const auto& [tensor, name] : map) {
    if (files.has(tensor)) continue;
    fail("{}: weight_map says that {} is in {}, which does not have it; {}", where, tensor, name, kMend);
  }
  return files;
}

}  // namespace moe
