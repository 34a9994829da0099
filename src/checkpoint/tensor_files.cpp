#include "checkpoint/tensor_files.h"

#include "base/error.h"

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

}  // namespace moe
