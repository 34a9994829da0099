#include "checkpoint/file_types.h"

#include "base/words.h"

namespace moe {

std::string folder_types_text() {
  std::vector<std::string> names;
  for (const StorageType& type : kStorageTypes) {
    if (folder_types().has(type.dtype)) names.emplace_back(type.safetensors);
  }
  return alternatives(names);
}

}  // namespace moe
